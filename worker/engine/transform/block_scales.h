// FP8 codes, or E2M1 codes two a byte, with one scale a block, to values: the scalar reference.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "worker/engine/dtype.h"
#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

// Extents of blocks that are read. Smaller ones would make the scales as large as the weights.
inline constexpr std::int64_t kMinimumBlock = 16;
inline constexpr std::int64_t kMaximumBlock = std::int64_t{1} << 20;

// The value of an E4M3 code ("FN": no infinities, 0x7F and 0xFF are NaN), exact.
[[nodiscard]] float FloatFromE4M3(std::uint8_t code);

// Most scales that a part needs, and their bytes as they are used.
inline constexpr std::int64_t kMaximumScales = std::int64_t{1} << 17;
inline constexpr std::int64_t kScaleMemory = kMaximumScales * static_cast<std::int64_t>(sizeof(float));

// Whether codes of transform.from under scales of dtype `scales` can become transform.to: E4M3 under F32 or BF16, or
// pairs of E2M1 (U8) under E4M3, into F32, BF16 or F16.
[[nodiscard]] bool CanDequantize(const ElementTransform& transform, DType scales);

// The regions of the tensor's scales, none where it has none.
[[nodiscard]] inline std::span<const SourceRegion> ScaleRegionsOf(const OutputTensor& tensor) {
  return tensor.scales ? std::span<const SourceRegion>(tensor.scales->regions) : std::span<const SourceRegion>();
}

// A range of scales, counted in row-major order of the scale tensor.
struct ScaleRange {
  std::int64_t first = 0;
  std::int64_t count = 0;
};

// How many elements from `first` on, at most `count`, have their scales in one range of at most kMaximumScales. At
// least 1 for a count above 0.
[[nodiscard]] std::int64_t CountWithinScales(const OutputTensor& tensor, std::int64_t first, std::int64_t count);

// The scales of elements [first, first + count), count above 0.
[[nodiscard]] ScaleRange ScalesOf(const OutputTensor& tensor, std::int64_t first, std::int64_t count);

// Appends scales as they are in a file (any alignment, little-endian), of F32, BF16 or E4M3, each times `factor` in
// FP32, to `scales`; returns its end.
float* UnpackScales(DType dtype, std::span<const std::byte> bytes, float factor, float* scales);

// Scales from number `first` on.
struct ScaleValues {
  std::span<const float> values;
  std::int64_t first = 0;
};

// Writes code times scale, computed in FP32 and rounded to nearest even, for the elements of `tensor` from number
// `first` on, as many as `codes` has; of pairs `first` is even, and so are columns and blocks. Returns the number of
// the first element whose value is not finite (a NaN code or scale, or a value past the output's range), or -1.
// Requires CanDequantize and scales that hold ScalesOf the elements. Thread-safe.
std::int64_t DequantizeBlocks(const OutputTensor& tensor, std::int64_t first, std::span<const std::byte> codes,
                              const ScaleValues& scales, std::span<std::byte> output);

}  // namespace slipway::engine
