// Element-wise work on the way from source to output: what ElementTransform names, the reference.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "worker/engine/plan/export_plan.h"
#include "worker/engine/transform/rounding.h"

namespace slipway::engine {

// IEEE 754 binary32 to and from the 16-bit formats, by bits. Rounding is to nearest, ties to even; what is too large
// becomes infinite, what is too small subnormal or zero; a NaN stays a NaN (quiet, sign and leading payload kept).
[[nodiscard]] float FloatFromBFloat16(std::uint16_t bits);
[[nodiscard]] std::uint16_t BFloat16FromFloat(float value);
[[nodiscard]] float FloatFromHalf(std::uint16_t bits);
[[nodiscard]] std::uint16_t HalfFromFloat(float value);

// Whether TransformElements can do it: any copy; otherwise from and to among F32, BF16 and F16.
[[nodiscard]] bool CanTransform(const ElementTransform& transform);

// Transforms the elements of `source` (any alignment, little-endian) into `output`, which has room for exactly as many
// elements. Requires CanTransform. Thread-safe. What rounding did to them is added to `rounding`, unless that is null
// or they are copied.
void TransformElements(const ElementTransform& transform, std::span<const std::byte> source,
                       std::span<std::byte> output, Rounding* rounding = nullptr);

}  // namespace slipway::engine
