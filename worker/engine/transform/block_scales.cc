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

std::int64_t ScaleColumns(const OutputTensor& tensor) {
  const std::int64_t block = tensor.scales->columns;
  return tensor.shape[1] / block + (tensor.shape[1] % block != 0 ? 1 : 0);
}

constexpr std::array<float, 256> MakeE4M3Values() {
  std::array<float, 256> values{};
  for (std::size_t code = 0; code < values.size(); ++code) {
    values[code] = DecodeE4M3(static_cast<std::uint8_t>(code));
  }
  return values;
}

constexpr std::array<float, 256> kE4M3Values = MakeE4M3Values();

constexpr std::array<float, 16> kE2M1Values = {0, 0.5F, 1, 1.5F, 2, 3, 4, 6, 0, -0.5F, -1, -1.5F, -2, -3, -4, -6};

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

// Codes of one byte each.
struct E4M3Codes {
  static constexpr std::int64_t kPerByte = 1;
  static float Value(const std::byte* codes, std::size_t i) {
    return kE4M3Values[std::to_integer<std::size_t>(codes[i])];
  }
};

// Two codes a byte, the even one in the low half. As ModelOpt reads them, the code of -0 is worth +0.
struct E2M1Codes {
  static constexpr std::int64_t kPerByte = 2;
  static float Value(const std::byte* codes, std::size_t i) {
    const auto pair = std::to_integer<std::uint8_t>(codes[i / 2]);
    return kE2M1Values[i % 2 == 0 ? pair & 15U : pair >> 4U];
  }
};

// `count` codes under one scale; the number of the first that is not finite, or -1.
template <class Codes, class To>
std::int64_t ScaleCodes(const std::byte* codes, std::size_t count, float scale, std::byte* output) {
  bool finite = true;
  for (std::size_t i = 0; i < count; ++i) {
    const auto stored = To::Store(Codes::Value(codes, i) * scale);
    finite = finite && To::IsFinite(stored);
    std::memcpy(output + i * sizeof(stored), &stored, sizeof(stored));
  }
  for (std::size_t i = 0; !finite; ++i) {
    if (!To::IsFinite(To::Store(Codes::Value(codes, i) * scale))) {
      return static_cast<std::int64_t>(i);
    }
  }
  return -1;
}

template <class Codes, class To>
std::int64_t Dequantize(const OutputTensor& tensor, std::int64_t first, std::span<const std::byte> codes,
                        const ScaleValues& scales, std::byte* output) {
  const std::int64_t columns = tensor.shape[1];
  const std::int64_t scale_columns = ScaleColumns(tensor);
  const auto count = static_cast<std::int64_t>(codes.size()) * Codes::kPerByte;
  std::int64_t bad = -1;
  for (std::int64_t done = 0; done < count;) {
    const std::int64_t row = (first + done) / columns;
    const std::int64_t column = (first + done) % columns;
    const std::int64_t block = column / tensor.scales->columns;
    const std::int64_t block_end = std::min((block + 1) * tensor.scales->columns, columns);
    const std::int64_t length = std::min(block_end - column, count - done);
    const std::int64_t number = row / tensor.scales->rows * scale_columns + block;
    const std::int64_t found =
        ScaleCodes<Codes, To>(codes.data() + done / Codes::kPerByte, static_cast<std::size_t>(length),
                              scales.values[static_cast<std::size_t>(number - scales.first)],
                              output + static_cast<std::size_t>(done) * sizeof(typename To::Stored));
    bad = bad < 0 && found >= 0 ? first + done + found : bad;
    done += length;
  }
  return bad;
}

template <class To>
std::int64_t Dequantize(const OutputTensor& tensor, std::int64_t first, std::span<const std::byte> codes,
                        const ScaleValues& scales, std::byte* output) {
  return ElementsPerStored(tensor) == 2 ? Dequantize<E2M1Codes, To>(tensor, first, codes, scales, output)
                                        : Dequantize<E4M3Codes, To>(tensor, first, codes, scales, output);
}

}  // namespace

float FloatFromE4M3(std::uint8_t code) { return kE4M3Values[code]; }

bool CanDequantize(const ElementTransform& transform, DType scales) {
  const bool is_readable = (transform.from == DType::kF8E4M3 && (scales == DType::kF32 || scales == DType::kBF16)) ||
                           (transform.from == DType::kU8 && scales == DType::kF8E4M3);
  return is_readable && !transform.add_one &&
         (transform.to == DType::kF32 || transform.to == DType::kBF16 || transform.to == DType::kF16);
}

float* UnpackScales(DType dtype, std::span<const std::byte> bytes, float factor, float* scales) {
  const auto size = static_cast<std::size_t>(InfoOf(dtype).bytes);
  for (std::size_t at = 0; at < bytes.size(); at += size) {
    float scale = 0;
    if (dtype == DType::kF32) {
      std::memcpy(&scale, bytes.data() + at, sizeof(scale));
    } else if (dtype == DType::kBF16) {
      std::uint16_t bits = 0;
      std::memcpy(&bits, bytes.data() + at, sizeof(bits));
      scale = FloatFromBFloat16(bits);
    } else {
      scale = kE4M3Values[std::to_integer<std::size_t>(bytes[at])];
    }
    *scales++ = scale * factor;
  }
  return scales;
}

std::int64_t CountWithinScales(const OutputTensor& tensor, std::int64_t first, std::int64_t count) {
  const std::int64_t columns = tensor.shape[1];
  const std::int64_t scale_columns = ScaleColumns(tensor);
  if (scale_columns > kMaximumScaleColumns) {
    count = std::min(count, columns - first % columns);
    const std::int64_t most = (kMaximumScales - 1) * std::min(tensor.scales->columns, kMaximumBlock);
    return std::min(count, most);
  }
  const std::int64_t block_rows = kMaximumScales / scale_columns;
  const std::int64_t first_block = first / columns / tensor.scales->rows;
  const std::int64_t all_blocks = (tensor.shape[0] - 1) / tensor.scales->rows + 1;
  return all_blocks - first_block <= block_rows
             ? count
             : std::min(count, (first_block + block_rows) * tensor.scales->rows * columns - first);
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
                              const ScaleValues& scales, std::span<std::byte> output) {
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
