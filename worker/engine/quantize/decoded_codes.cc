#include "worker/engine/quantize/decoded_codes.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "worker/engine/quantize/element_codes.h"
#include "worker/engine/quantize/scales.h"
#include "worker/engine/quantize/squared_sum.h"
#include "worker/engine/quantize/value_reader.h"

namespace slipway::engine {
namespace {

class BandReader {
 public:
  BandReader(const StoredBand& band, std::int64_t rows, std::int64_t columns)
      : band_(band), coding_(band.coding), rows_(rows), columns_(columns) {}

  // What the element at (row, column) is, before its scale.
  [[nodiscard]] float ElementAt(std::int64_t row, std::int64_t column) const {
    switch (coding_.packing) {
      case Packing::kBytes:
        return Decode(coding_.element, Byte(row * columns_ + column));
      case Packing::kNibblePairs:
        return Nibble(row * (columns_ / 2) + column / 2, column % 2);
      case Packing::kNibbleRows:
        return Nibble(row / 2 * columns_ + column, row % 2);
      case Packing::kWords: {
        const std::int64_t in_word = coding_.element == Element::kInt8 ? 4 : 8;
        const std::int64_t words = (columns_ + in_word - 1) / in_word;
        return Offset(band_.codes, row * words + column / in_word, column % in_word, 32 / static_cast<int>(in_word));
      }
      case Packing::kWordsColumns:
        return Offset(band_.codes, column * (rows_ / 8) + row / 8, kAwqPlaces[static_cast<std::size_t>(row % 8)], 4);
      case Packing::kWordsRows:
        return Offset(band_.codes, column / 8 * rows_ + row, column % 8, 4);
    }
    return 0;
  }

  // Which code is 0.
  [[nodiscard]] float ZeroPointAt(std::int64_t row, std::int64_t column) const {
    if (!HasZeroPoints(coding_.rule)) {
      return 0;
    }
    const std::int64_t place = column / coding_.group;
    if (coding_.packing == Packing::kWordsColumns) {
      return Offset(band_.zero_points, place * (rows_ / 8) + row / 8, kAwqPlaces[static_cast<std::size_t>(row % 8)], 4);
    }
    return Offset(band_.zero_points, row / 8 * (columns_ / coding_.group) + place, row % 8, 4);
  }

  [[nodiscard]] float ScaleAt(std::int64_t row, std::int64_t column) const {
    const std::int64_t group = std::max<std::int64_t>(coding_.group, 1);
    switch (coding_.sharing) {
      case Sharing::kTensor:
        return band_.tensor_scale;
      case Sharing::kRow:
        return StoredScale(row);
      case Sharing::kSquare:
        return StoredScale(row / group * ((columns_ + group - 1) / group) + column / group);
      case Sharing::kGroup:
        break;
    }
    const bool transposed = PacksColumns(coding_.packing);
    return StoredScale(transposed ? column / group * rows_ + row : row * (columns_ / group) + column / group);
  }

 private:
  static constexpr std::array<std::int64_t, 8> kAwqPlaces = {0, 4, 1, 5, 2, 6, 3, 7};  // of row i, from the low nibble

  [[nodiscard]] std::uint8_t Byte(std::int64_t at) const {
    return std::to_integer<std::uint8_t>(band_.codes[static_cast<std::size_t>(at)]);
  }

  [[nodiscard]] float Nibble(std::int64_t at, std::int64_t high) const {
    const int code = Byte(at) >> (high != 0 ? 4 : 0) & 0xF;
    if (coding_.element == Element::kE2M1) {
      return DecodeE2M1(static_cast<std::uint8_t>(code));
    }
    return static_cast<float>(code < 8 ? code : code - 16);
  }

  // An integer to which 2^(bits - 1) was added: number `place` of word `at`.
  [[nodiscard]] static float Offset(std::span<const std::byte> words, std::int64_t at, std::int64_t place, int bits) {
    std::uint32_t word = 0;
    std::memcpy(&word, words.data() + at * 4, sizeof(word));
    const auto code = static_cast<int>(word >> (static_cast<int>(place) * bits) & ((1U << bits) - 1));
    return static_cast<float>(code - (1 << (bits - 1)));
  }

  [[nodiscard]] float StoredScale(std::int64_t at) const {
    const auto bytes = static_cast<std::size_t>(InfoOf(coding_.scale_dtype).bytes);
    std::uint32_t stored = 0;
    std::memcpy(&stored, band_.scales.data() + static_cast<std::size_t>(at) * bytes, bytes);
    return EffectiveScale(coding_, stored, band_.tensor_scale);
  }

  const StoredBand& band_;
  const Coding& coding_;
  const std::int64_t rows_;
  const std::int64_t columns_;
};

}  // namespace

std::vector<RowStatistics> MeasureStoredBand(const Values& values, const StoredBand& band) {
  const BandReader reader(band, values.rows, values.columns);
  const float largest = LargestElement(band.coding.element);
  const auto columns = static_cast<std::size_t>(values.columns);
  std::vector<float> row(columns);
  std::vector<float> errors(columns);
  std::vector<RowStatistics> all(static_cast<std::size_t>(values.rows));
  for (std::int64_t i = 0; i < values.rows; ++i) {
    ReadValues(values, i, 0, row);
    RowStatistics& statistics = all[static_cast<std::size_t>(i)];
    for (std::size_t j = 0; j < columns; ++j) {
      const float element = reader.ElementAt(i, static_cast<std::int64_t>(j));
      const float scale = reader.ScaleAt(i, static_cast<std::int64_t>(j));
      const float zero = reader.ZeroPointAt(i, static_cast<std::int64_t>(j));
      const float product = (element - zero) * scale;
      errors[j] = row[j] - product;
      statistics.amax = std::max(statistics.amax, std::fabs(row[j]));
      statistics.largest_error = std::max(statistics.largest_error, std::fabs(errors[j]));
      const float quotient = row[j] / scale;
      const bool beyond =
          HasZeroPoints(band.coding.rule) ? quotient < -8 - zero || quotient > 7 - zero : std::fabs(quotient) > largest;
      statistics.saturated += beyond ? 1 : 0;
      statistics.zeros += row[j] != 0 && element == zero ? 1 : 0;
    }
    statistics.squared_error = SumOfSquares(columns, [&](std::size_t j) { return errors[j]; });
    statistics.squared_value = SumOfSquares(columns, [&](std::size_t j) { return row[j]; });
  }
  return all;
}

}  // namespace slipway::engine
