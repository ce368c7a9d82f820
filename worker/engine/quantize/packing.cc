#include "worker/engine/quantize/packing.h"

#include <array>
#include <cstring>

#include "worker/engine/quantize/element_codes.h"

namespace slipway::engine {
namespace {

constexpr std::int64_t kWordBits = 32;
constexpr std::int64_t kWordBytes = 4;
constexpr std::int64_t kWordNibbles = 8;
// The column of a word's nibble i, in AutoAWQ's words.
constexpr std::array<std::int64_t, kWordNibbles> kAwqOrder = {0, 2, 4, 6, 1, 3, 5, 7};

std::uint32_t Nibble(std::uint8_t code) { return code & 0xFU; }

// A two's complement nibble plus 8.
std::uint32_t Offset(std::uint8_t code) { return Nibble(code) ^ 0x8U; }

void StoreWord(std::uint32_t word, std::int64_t number, std::span<std::byte> packed) {
  std::memcpy(packed.data() + number * kWordBytes, &word, sizeof(word));
}

void PackPairs(std::span<const std::uint8_t> codes, std::span<std::byte> row) {
  for (std::size_t i = 0; i < codes.size(); i += 2) {
    row[i / 2] = static_cast<std::byte>(Nibble(codes[i]) | Nibble(codes[i + 1]) << 4);
  }
}

void PackRowPair(std::span<const std::uint8_t> codes, std::span<std::byte> row) {
  for (std::size_t i = 0; i < row.size(); ++i) {
    row[i] = static_cast<std::byte>(Nibble(codes[i]) | Nibble(codes[row.size() + i]) << 4);
  }
}

// One row's dense words; the bits past its end are zero.
void PackWords(int bits, std::span<const std::uint8_t> codes, std::span<std::byte> row) {
  const std::size_t in_word = static_cast<std::size_t>(kWordBits / bits);
  const std::uint32_t sign = 1U << (bits - 1);
  const std::uint32_t mask = (sign << 1) - 1;
  for (std::size_t first = 0, number = 0; first < codes.size(); first += in_word, ++number) {
    std::uint32_t word = 0;
    for (std::size_t i = 0; i < in_word && first + i < codes.size(); ++i) {
      word |= ((codes[first + i] & mask) ^ sign) << (i * static_cast<std::size_t>(bits));
    }
    StoreWord(word, static_cast<std::int64_t>(number), row);
  }
}

// Eight rows of the weight, a word of each column: element (k, strip) of [K, N/8].
void PackWordsColumns(std::span<const std::uint8_t> codes, std::int64_t strip, std::int64_t strips,
                      std::int64_t columns, std::span<std::byte> packed) {
  for (std::int64_t k = 0; k < columns; ++k) {
    std::uint32_t word = 0;
    for (std::int64_t i = 0; i < kWordNibbles; ++i) {
      const auto at = static_cast<std::size_t>(kAwqOrder[static_cast<std::size_t>(i)] * columns + k);
      word |= Offset(codes[at]) << (4 * i);
    }
    StoreWord(word, k * strips + strip, packed);
  }
}

// A row of the weight: column `row` of [K/8, N].
void PackWordsRows(std::span<const std::uint8_t> codes, std::int64_t row, std::int64_t rows,
                   std::span<std::byte> packed) {
  const auto words = static_cast<std::int64_t>(codes.size()) / kWordNibbles;
  for (std::int64_t r = 0; r < words; ++r) {
    std::uint32_t word = 0;
    for (std::int64_t i = 0; i < kWordNibbles; ++i) {
      word |= Offset(codes[static_cast<std::size_t>(r * kWordNibbles + i)]) << (4 * i);
    }
    StoreWord(word, r * rows + row, packed);
  }
}

}  // namespace

bool CanPack(Packing packing, Element element, std::int64_t rows, std::int64_t columns) {
  const bool nibbles = ElementBits(element) == 4;
  switch (packing) {
    case Packing::kBytes:
      return true;
    case Packing::kNibblePairs:
      return nibbles && columns % 2 == 0;
    case Packing::kNibbleRows:
      return nibbles && rows % 2 == 0;
    case Packing::kWords:
      return element == Element::kInt4 || element == Element::kInt8;
    case Packing::kWordsColumns:
      return element == Element::kInt4 && rows % kWordNibbles == 0;
    case Packing::kWordsRows:
      return element == Element::kInt4 && columns % kWordNibbles == 0;
  }
  return false;
}

std::int64_t PackedBytes(Packing packing, Element element, std::int64_t rows, std::int64_t columns) {
  switch (packing) {
    case Packing::kBytes:
      return rows * columns;
    case Packing::kWords: {
      const std::int64_t in_word = kWordBits / ElementBits(element);
      return rows * ((columns + in_word - 1) / in_word) * kWordBytes;
    }
    default:
      return rows * columns / 2;
  }
}

std::int64_t StripRows(Packing packing) {
  return packing == Packing::kNibbleRows ? 2 : packing == Packing::kWordsColumns ? kWordNibbles : 1;
}

void PackStrip(const Coding& coding, std::span<const std::uint8_t> codes, std::int64_t first_row, std::int64_t rows,
               std::int64_t columns, std::span<std::byte> packed) {
  const std::int64_t strip = first_row / StripRows(coding.packing);
  const std::int64_t bytes = PackedBytes(coding.packing, coding.element, StripRows(coding.packing), columns);
  const auto own = [&] {
    return packed.subspan(static_cast<std::size_t>(strip * bytes), static_cast<std::size_t>(bytes));
  };
  switch (coding.packing) {
    case Packing::kBytes:
      std::memcpy(own().data(), codes.data(), codes.size());
      break;
    case Packing::kNibblePairs:
      return PackPairs(codes, own());
    case Packing::kNibbleRows:
      return PackRowPair(codes, own());
    case Packing::kWords:
      return PackWords(ElementBits(coding.element), codes, own());
    case Packing::kWordsColumns:
      return PackWordsColumns(codes, strip, rows / kWordNibbles, columns, packed);
    case Packing::kWordsRows:
      return PackWordsRows(codes, first_row, rows, packed);
  }
}

void PackZeroPoints(Packing packing, std::span<const std::byte> zero_points, std::int64_t rows,
                    std::span<std::byte> words) {
  const bool columns = packing == Packing::kWordsColumns;
  const std::int64_t across = static_cast<std::int64_t>(zero_points.size()) / rows;
  const std::int64_t strips = rows / kWordNibbles;
  for (std::int64_t strip = 0; strip < strips; ++strip) {
    for (std::int64_t place = 0; place < across; ++place) {
      std::uint32_t word = 0;
      for (std::int64_t i = 0; i < kWordNibbles; ++i) {
        const std::int64_t row = strip * kWordNibbles + (columns ? kAwqOrder[static_cast<std::size_t>(i)] : i);
        const std::int64_t at = columns ? place * rows + row : row * across + place;
        word |= Offset(std::to_integer<std::uint8_t>(zero_points[static_cast<std::size_t>(at)])) << (4 * i);
      }
      StoreWord(word, columns ? place * strips + strip : strip * across + place, words);
    }
  }
}

}  // namespace slipway::engine
