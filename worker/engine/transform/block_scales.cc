#include "worker/engine/transform/block_scales.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "worker/engine/quantize/element_codes.h"
#include "worker/engine/transform/element_transform.h"

namespace slipway::engine {
namespace {

static_assert(std::endian::native == std::endian::little, "checkpoints and safetensors are little-endian");

// Wider rows of scales are not read for a few elements of two rows.
constexpr std::int64_t kMaximumScaleColumns = 65'536;

std::int64_t ScaleColumns(const OutputTensor& tensor) { return tensor.scales->region.sizes[1]; }

constexpr std::array<float, 256> MakeE4M3Values() {
  std::array<float, 256> values{};
  for (std::size_t code = 0; code < values.size(); ++code) {
    values[code] = DecodeE4M3(static_cast<std::uint8_t>(code));
  }
  return values;
}

constexpr std::array<float, 256> kE4M3Values = MakeE4M3Values();

float ScaleAt(const ScaleBytes& scales, std::int64_t number) {
  const auto at = static_cast<std::size_t>(number - scales.first);
  if (scales.dtype == DType::kF32) {
    float scale = 0;
    std::memcpy(&scale, scales.bytes.data() + at * sizeof(scale), sizeof(scale));
    return scale;
  }
  std::uint16_t bits = 0;
  std::memcpy(&bits, scales.bytes.data() + at * sizeof(bits), sizeof(bits));
  return FloatFromBFloat16(bits);
}

struct ToF32 {
  using Stored = float;
  static Stored Store(float value) { return value; }
  static bool IsFinite(Stored stored) { return std::isfinite(stored); }
};
struct ToBF16 {
  using Stored = std::uint16_t;
  static Stored Store(float value) { return BFloat16FromFloat(value); }
  static bool IsFinite(Stored stored) { return (stored & 0x7F80) != 0x7F80; }
};
struct ToF16 {
  using Stored = std::uint16_t;
  static Stored Store(float value) { return HalfFromFloat(value); }
  static bool IsFinite(Stored stored) { return (stored & 0x7C00) != 0x7C00; }
};

// Codes under one scale; the number of the first that is not finite, or -1.
template <class To>
std::int64_t ScaleCodes(std::span<const std::byte> codes, float scale, std::byte* output) {
  bool finite = true;
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const auto stored = To::Store(kE4M3Values[std::to_integer<std::size_t>(codes[i])] * scale);
    finite = finite && To::IsFinite(stored);
    std::memcpy(output + i * sizeof(stored), &stored, sizeof(stored));
  }
  for (std::size_t i = 0; !finite; ++i) {
    if (!To::IsFinite(To::Store(kE4M3Values[std::to_integer<std::size_t>(codes[i])] * scale))) {
      return static_cast<std::int64_t>(i);
    }
  }
  return -1;
}

template <class To>
std::int64_t Dequantize(const OutputTensor& tensor, std::int64_t first, std::span<const std::byte> codes,
                        const ScaleBytes& scales, std::byte* output) {
  const std::int64_t columns = tensor.shape[1];
  const auto count = static_cast<std::int64_t>(codes.size());
  std::int64_t bad = -1;
  for (std::int64_t done = 0; done < count;) {
    const std::int64_t row = (first + done) / columns;
    const std::int64_t column = (first + done) % columns;
    const std::int64_t block = column / tensor.scales->columns;
    const std::int64_t block_end = std::min((block + 1) * tensor.scales->columns, columns);
    const std::int64_t length = std::min(block_end - column, count - done);
    const float scale = ScaleAt(scales, row / tensor.scales->rows * ScaleColumns(tensor) + block);
    const auto at = static_cast<std::size_t>(done);
    const std::int64_t found = ScaleCodes<To>(codes.subspan(at, static_cast<std::size_t>(length)), scale,
                                              output + at * sizeof(typename To::Stored));
    bad = bad < 0 && found >= 0 ? first + done + found : bad;
    done += length;
  }
  return bad;
}

}  // namespace

float FloatFromE4M3(std::uint8_t code) { return kE4M3Values[code]; }

bool CanDequantize(const ElementTransform& transform, DType scales) {
  return transform.from == DType::kF8E4M3 && !transform.add_one && (scales == DType::kF32 || scales == DType::kBF16) &&
         (transform.to == DType::kF32 || transform.to == DType::kBF16 || transform.to == DType::kF16);
}

std::int64_t CountWithinScales(const OutputTensor& tensor, std::int64_t first, std::int64_t count) {
  const std::int64_t columns = tensor.shape[1];
  return ScaleColumns(tensor) <= kMaximumScaleColumns ? count : std::min(count, columns - first % columns);
}

ScaleRange ScalesOf(const OutputTensor& tensor, std::int64_t first, std::int64_t count) {
  const std::int64_t columns = tensor.shape[1];
  const std::int64_t last = first + count - 1;
  const std::int64_t first_row = first / columns;
  const std::int64_t last_row = last / columns;
  // Elements of one row need no more than their columns' scales, those of several all of a row.
  const bool one_row = first_row == last_row;
  const std::int64_t begin_column = one_row ? first % columns / tensor.scales->columns : 0;
  const std::int64_t end_column = one_row ? last % columns / tensor.scales->columns + 1 : ScaleColumns(tensor);
  const std::int64_t begin = first_row / tensor.scales->rows * ScaleColumns(tensor) + begin_column;
  const std::int64_t end = last_row / tensor.scales->rows * ScaleColumns(tensor) + end_column;
  return {.first = begin, .count = end - begin};
}

std::int64_t DequantizeBlocks(const OutputTensor& tensor, std::int64_t first, std::span<const std::byte> codes,
                              const ScaleBytes& scales, std::span<std::byte> output) {
  switch (tensor.transform.to) {
    case DType::kF32:
      return Dequantize<ToF32>(tensor, first, codes, scales, output.data());
    case DType::kBF16:
      return Dequantize<ToBF16>(tensor, first, codes, scales, output.data());
    default:
      return Dequantize<ToF16>(tensor, first, codes, scales, output.data());
  }
}

}  // namespace slipway::engine
