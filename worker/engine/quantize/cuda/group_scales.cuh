// A block's scale by a rule that is known where it is compiled, with the divisions that all blocks have in common
// prepared on the host. The result is that of scales.h.
#pragma once

#include <cstdint>
#include <type_traits>

#include "worker/engine/quantize/cuda/encode.cuh"
#include "worker/engine/quantize/scales.h"

namespace slipway::engine {

// What amax is divided by, and what the stored scale is.
struct RuleDivisors {
  Divisor amax;
  Divisor stored;
};

inline Divisor MakeRuleDivisor(float scale) { return {scale, 1.0F / scale, scale >= 0x1p-80F && scale <= 0x1p80F}; }

inline RuleDivisors RuleDivisorsOf(const Coding& coding, float tensor_scale) {
  const float bound = coding.rule == ScaleRule::kTwoLevel ? coding.bound * tensor_scale : coding.bound;
  return {MakeRuleDivisor(bound), MakeRuleDivisor(tensor_scale)};
}

template <class Unused = void>
__device__ __noinline__ float DivideSlowly(float value, float divisor) {
  return value / divisor;
}

// value / divisor, of a value of type kType.
template <DType kType>
__device__ __forceinline__ float QuotientByRule(float value, const Divisor& divisor) {
  const float near = value * divisor.reciprocal;
  return divisor.corrected && near >= 0x1p-20F && near <= 0x1p20F ? QuotientOf<kType>(value, divisor)
                                                                  : DivideSlowly(value, divisor.scale);
}

// Of codes below NaN's.
__device__ __forceinline__ float DecodePositiveE4M3(std::uint32_t code) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  std::uint32_t halves;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(static_cast<std::uint16_t>(code)));
  return __half2float(__ushort_as_half(static_cast<std::uint16_t>(halves)));
#else
  return DecodeE4M3(static_cast<std::uint8_t>(code));
#endif
}

template <ScaleRule kRule>
inline constexpr bool kTwoLevels = IsTwoLevel(kRule);
template <ScaleRule kRule>
inline constexpr bool kPowers = kRule == ScaleRule::kPowerOfTwo || kRule == ScaleRule::kPowerOfTwoRounded;

// RuleScale.
template <ScaleRule kRule, DType kType>
__device__ __forceinline__ std::uint32_t RuleScaleOf(const Coding& coding, const RuleDivisors& divisors, float amax,
                                                     float tensor_scale) {
  if constexpr (kRule == ScaleRule::kPowerOfTwo) {
    return PowerOfTwoScale(amax, coding.bound);
  } else if constexpr (kRule == ScaleRule::kPowerOfTwoRounded) {
    return PowerOfTwoRoundedScale(amax, coding.bound);
  } else if constexpr (kTwoLevels<kRule>) {
    const float quotient = QuotientByRule<kType>(amax, divisors.amax);
    const float scale = kRule == ScaleRule::kTwoLevelReciprocal ? quotient * tensor_scale : quotient;
    const std::uint32_t code = max(EncodePairE4M3(fminf(scale, 448.0F), 0.0F) & 0x7F, 1U);
    return amax != 0 ? code : kRule == ScaleRule::kTwoLevelReciprocal ? 0x20U : 0x38U;
  } else {
    return RoundedScale(coding.scale_dtype, amax == 0 ? 1.0F : QuotientByRule<kType>(amax, divisors.amax));
  }
}

// EffectiveScale.
template <ScaleRule kRule>
__device__ __forceinline__ float EffectiveScaleOf(const Coding& coding, const RuleDivisors& divisors,
                                                  std::uint32_t stored, float tensor_scale) {
  if constexpr (kRule == ScaleRule::kTwoLevel) {
    return DecodePositiveE4M3(stored) * tensor_scale;
  } else if constexpr (kRule == ScaleRule::kTwoLevelReciprocal) {
    const float decoded = DecodePositiveE4M3(stored);
    return divisors.stored.corrected ? ShortQuotientOf(decoded, divisors.stored) : DivideSlowly(decoded, tensor_scale);
  } else if constexpr (kPowers<kRule>) {
    return DecodeE8M0(static_cast<std::uint8_t>(stored));
  } else {
    switch (coding.scale_dtype) {
      case DType::kBF16:
        return FromBFloat16(static_cast<std::uint16_t>(stored));
      case DType::kF16:
        return __half2float(__ushort_as_half(static_cast<std::uint16_t>(stored)));
      default:
        return FloatOf(stored);
    }
  }
}

template <ScaleRule kRule>
using DivisorOf = std::conditional_t<kPowers<kRule>, PowerDivisor, Divisor>;

// The divisor of values up to amax; of E2M1 it is `corrected` for small quotients alone.
template <ScaleRule kRule, Element kElement, DType kType>
__device__ __forceinline__ DivisorOf<kRule> MakeDivisorOf(float scale, float amax) {
  DivisorOf<kRule> divisor;
  if constexpr (kPowers<kRule>) {
    divisor = MakePowerDivisor(scale, amax, kType);
  } else {
    divisor = MakeDivisor(scale, amax, kType);
  }
  if constexpr (kElement == Element::kE2M1) {
    divisor.corrected = divisor.corrected && amax * divisor.reciprocal <= kSmallQuotient;
  }
  return divisor;
}

}  // namespace slipway::engine
