// From the largest magnitude of a block to its scale, for the host and for GPUs, as coding.h says it.
#pragma once

#include <cstdint>

#include "worker/engine/float_bits.h"
#include "worker/engine/quantize/coding.h"
#include "worker/engine/quantize/element_codes.h"

namespace slipway::engine {

inline constexpr float kSmallestScale = 0x1p-126F;  // of F32 and BF16, and of tensors
inline constexpr float kLargestScale = 0x1p126F;    // of tensors, where it is the reciprocal that is stored

// From the least value of a block to the largest, 0 among them.
struct Range {
  float low = 0;   // 0 or less
  float high = 0;  // 0 or more
};

// What is stored, as bits of Coding::scale_dtype, of the block's scale by the rule. Of kTensor, of the tensor's.
SLIPWAY_HOST_DEVICE constexpr std::uint32_t RuleScale(const Coding& coding, float amax, float tensor_scale);

// The same by a rule of ranges, and the zero point in [-8, 7] that goes with what the scale then is.
SLIPWAY_HOST_DEVICE constexpr std::uint32_t RangeScale(const Coding& coding, Range range);
SLIPWAY_HOST_DEVICE constexpr std::int32_t ZeroPoint(const Coding& coding, Range range, float scale);

// What elements are multiplied by, and values divided by, where `stored` is: in (0, infinity).
SLIPWAY_HOST_DEVICE constexpr float EffectiveScale(const Coding& coding, std::uint32_t stored, float tensor_scale);

// The rule's scale, moved by a candidate of scale_search.h: the factor for kAmax, the step for the other rules but
// those of ranges, of which it is the range that moves.
SLIPWAY_HOST_DEVICE constexpr std::uint32_t NeighbourScale(const Coding& coding, float amax, float tensor_scale,
                                                           float factor, int step);

// A scale as F32, BF16 or F16: finite, and so large that codes do not depend on how subnormals divide.
SLIPWAY_HOST_DEVICE constexpr std::uint32_t RoundedScale(DType dtype, float scale) {
  if (dtype == DType::kF16) {
    constexpr std::uint32_t kSmallest = 0x0001;  // 2^-24
    constexpr std::uint32_t kLargest = 0x7BFF;   // 65504
    const std::uint32_t bits = ToHalf(scale);
    return bits < kSmallest ? kSmallest : bits > kLargest ? kLargest : bits;
  }
  constexpr std::uint32_t kSmallest = 0x00800000;  // 2^-126
  const std::uint32_t bits =
      dtype == DType::kBF16 ? static_cast<std::uint32_t>(ToBFloat16(scale)) << 16 : BitsOf(scale);
  const std::uint32_t largest = dtype == DType::kBF16 ? 0x7F7F0000 : 0x7F7FFFFF;
  const std::uint32_t within = bits < kSmallest ? kSmallest : bits > largest ? largest : bits;
  return dtype == DType::kBF16 ? within >> 16 : within;
}

// What RoundedScale gives, as a number.
SLIPWAY_HOST_DEVICE constexpr float FloatScale(DType dtype, std::uint32_t stored) {
  return dtype == DType::kBF16  ? FromBFloat16(static_cast<std::uint16_t>(stored))
         : dtype == DType::kF16 ? FromHalf(static_cast<std::uint16_t>(stored))
                                : FloatOf(stored);
}

// The least e with amax <= bound * 2^e, as E8M0.
SLIPWAY_HOST_DEVICE constexpr std::uint32_t PowerOfTwoScale(float amax, float bound) {
  const auto value = static_cast<std::int32_t>(BitsOf(amax));
  const auto unit = static_cast<std::int32_t>(BitsOf(bound));
  const std::int32_t exponent = (value >> 23) - (unit >> 23) + 127;
  const std::int32_t up = (value & 0x7FFFFF) > (unit & 0x7FFFFF) ? 1 : 0;
  // A subnormal amax is far below 2^-127 times any bound.
  return static_cast<std::uint32_t>(exponent + up < 0 || value < 0x00800000 ? 0 : exponent + up);
}

SLIPWAY_HOST_DEVICE constexpr std::uint32_t PowerOfTwoRoundedScale(float amax, float bound) {
  constexpr std::uint32_t kQuarter = 0x200000;  // carries from 1.75 on up
  const auto value = static_cast<std::int32_t>((BitsOf(amax) + kQuarter) >> 23);
  const auto unit = static_cast<std::int32_t>(BitsOf(bound) >> 23) - 127;
  return static_cast<std::uint32_t>(value < unit ? 0 : value - unit);
}

SLIPWAY_HOST_DEVICE constexpr std::uint32_t TwoLevelScale(const Coding& coding, float amax, float tensor_scale) {
  constexpr std::uint32_t kOne = 0x38;
  constexpr std::uint32_t kEighth = 0x20;
  const bool reciprocal = coding.rule == ScaleRule::kTwoLevelReciprocal;
  if (amax == 0) {
    return reciprocal ? kEighth : kOne;
  }
  const float scale = reciprocal ? amax / coding.bound * tensor_scale : amax / (coding.bound * tensor_scale);
  const std::uint32_t code = EncodeE4M3(scale);
  return code == 0 ? 1 : code;
}

SLIPWAY_HOST_DEVICE constexpr std::uint32_t AmaxScale(DType dtype, float amax, float bound) {
  return RoundedScale(dtype, amax == 0 ? 1.0F : amax / bound);
}

// What is stored of a range's scale.
SLIPWAY_HOST_DEVICE constexpr std::uint32_t RangeScale(const Coding& coding, Range range) {
  const DType steps = coding.rule == ScaleRule::kRangeRounded ? coding.scale_dtype : DType::kF32;
  const float width = range.high - range.low;
  const float within = FloatScale(steps, RoundedScale(steps, width));
  return RoundedScale(coding.scale_dtype, width == 0 ? 1.0F : within / coding.bound);
}

SLIPWAY_HOST_DEVICE constexpr float RoundedStep(DType dtype, float value) {
  return dtype == DType::kBF16  ? FromBFloat16(ToBFloat16(value))
         : dtype == DType::kF16 ? FromHalf(ToHalf(value))
                                : value;
}

SLIPWAY_HOST_DEVICE constexpr std::int32_t ZeroPoint(const Coding& coding, Range range, float scale) {
  const float steps = range.low / scale;
  if (coding.rule == ScaleRule::kRange) {
    return EncodeInteger(-steps, 0, 15) - 8;
  }
  return EncodeInteger(RoundedStep(coding.scale_dtype, -8 - RoundedStep(coding.scale_dtype, steps)), -8, 7);
}

SLIPWAY_HOST_DEVICE constexpr std::uint32_t RuleScale(const Coding& coding, float amax, float tensor_scale) {
  switch (coding.rule) {
    case ScaleRule::kAmax:
      break;
    case ScaleRule::kPowerOfTwo:
      return PowerOfTwoScale(amax, coding.bound);
    case ScaleRule::kPowerOfTwoRounded:
      return PowerOfTwoRoundedScale(amax, coding.bound);
    case ScaleRule::kTwoLevel:
    case ScaleRule::kTwoLevelReciprocal:
      return TwoLevelScale(coding, amax, tensor_scale);
    case ScaleRule::kRange:
    case ScaleRule::kRangeRounded:
      return RangeScale(coding, {-amax, amax});
  }
  return AmaxScale(coding.scale_dtype, amax, coding.bound);
}

SLIPWAY_HOST_DEVICE constexpr float EffectiveScale(const Coding& coding, std::uint32_t stored, float tensor_scale) {
  switch (coding.rule) {
    case ScaleRule::kAmax:
      break;
    case ScaleRule::kPowerOfTwo:
    case ScaleRule::kPowerOfTwoRounded:
      return DecodeE8M0(static_cast<std::uint8_t>(stored));
    case ScaleRule::kTwoLevel:
      return DecodeE4M3(static_cast<std::uint8_t>(stored)) * tensor_scale;
    case ScaleRule::kTwoLevelReciprocal:
      return DecodeE4M3(static_cast<std::uint8_t>(stored)) / tensor_scale;
    case ScaleRule::kRange:
    case ScaleRule::kRangeRounded:
      break;
  }
  return FloatScale(coding.scale_dtype, stored);
}

SLIPWAY_HOST_DEVICE constexpr std::uint32_t NeighbourScale(const Coding& coding, float amax, float tensor_scale,
                                                           float factor, int step) {
  if (coding.rule == ScaleRule::kAmax) {
    return RuleScale(coding, amax * factor, tensor_scale);
  }
  const bool two_levels = IsTwoLevel(coding.rule);
  const int least = two_levels ? 1 : 0;
  const int largest = two_levels ? 126 : 254;
  const int code = static_cast<int>(RuleScale(coding, amax, tensor_scale)) + step;
  return static_cast<std::uint32_t>(code < least ? least : code > largest ? largest : code);
}

}  // namespace slipway::engine
