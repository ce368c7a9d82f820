// value / scale, correctly rounded, by a product with the scale's reciprocal and two corrections: half of what a
// division costs, once the reciprocal is there. For the host and for GPUs.
//
// With y = 1 / s rounded to nearest, q0 = v * y is within two units of the last place; q1 = q0 + (v - q0 * s) * y is
// faithful; and the same step again gives the quotient rounded to nearest (Markstein's theorem), as long as nothing
// overflows and the remainders, which are exact, are not below 2^-149. That is so for |v| from 2^-100 and s from 2^-80
// on; below, the quotient is below 2^-19, which every element takes for a zero however it is rounded.
//
// Of values of 11 significant bits, as BF16 and F16 have at most, q1 is that quotient already: nothing but the bits of
// v and s matters for it, and of all 2^33 pairs of those none differs (cuda_quantize_check tries them).
#pragma once

#include <cmath>

#include "worker/engine/dtype.h"
#include "worker/engine/float_bits.h"
#include "worker/engine/quantize/element_codes.h"

namespace slipway::engine {

struct Divisor {
  float scale = 1;
  float reciprocal = 1;
  bool corrected = false;  // whether QuotientOf may be used; otherwise divide
};

// For values of magnitude up to `amax` and of type `dtype`. The largest scale is such that no value that is not zero
// has a quotient of zero, so that the quotient keeps its sign; the largest quotient, that no product overflows.
SLIPWAY_HOST_DEVICE inline Divisor MakeDivisor(float scale, float amax, DType dtype) {
  constexpr float kSmallest = 0x1p-80F;
  constexpr float kLargestQuotient = 0x1p20F;
  const float largest = dtype == DType::kF32 ? 1.0F : 0x1p16F;
  const float reciprocal = 1.0F / scale;
  return {scale, reciprocal, scale >= kSmallest && scale <= largest && amax * reciprocal <= kLargestQuotient};
}

// A Divisor whose scale is a power of two.
struct PowerDivisor : Divisor {};

SLIPWAY_HOST_DEVICE inline PowerDivisor MakePowerDivisor(float scale, float amax, DType dtype) {
  constexpr std::uint32_t kTwiceTheBias = 0x7F000000;
  const float largest = dtype == DType::kF32 ? 1.0F : 0x1p16F;
  const float reciprocal = FloatOf(kTwiceTheBias - BitsOf(scale));
  return {{scale, reciprocal, scale >= 0x1p-80F && scale <= largest && amax * reciprocal <= 0x1p20F}};
}

// Of a Divisor that is `corrected`: value / scale, and +0 for -0. The value is of 11 significant bits at most.
SLIPWAY_HOST_DEVICE inline float ShortQuotientOf(float value, const Divisor& divisor) {
  const float first = value * divisor.reciprocal;
  return fmaf(fmaf(-first, divisor.scale, value), divisor.reciprocal, first);
}

// The same, of any value.
SLIPWAY_HOST_DEVICE inline float QuotientOf(float value, const Divisor& divisor) {
  const float second = ShortQuotientOf(value, divisor);
  return fmaf(fmaf(-second, divisor.scale, value), divisor.reciprocal, second);
}

template <DType kType>
SLIPWAY_HOST_DEVICE inline float QuotientOf(float value, const Divisor& divisor) {
  return kType == DType::kF32 ? QuotientOf(value, divisor) : ShortQuotientOf(value, divisor);
}

// It is exact. The sum makes +0 of -0.
template <DType kType>
SLIPWAY_HOST_DEVICE inline float QuotientOf(float value, const PowerDivisor& divisor) {
  return fmaf(value, divisor.reciprocal, 0.0F);
}

SLIPWAY_HOST_DEVICE inline std::uint32_t Least(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
#ifdef __CUDA_ARCH__
  return __vimin3_u32(a, b, c);
#else
  const std::uint32_t least = a < b ? a : b;
  return least < c ? least : c;
#endif
}

// The E2M1 code of a quotient in [0, 7), plus 0x4B400000. With q in units of its own, the code is the integer nearest
// to the least of 2 q, q + 2 and q / 2 + 4, which are the three steps of the elements; ties go to even ones in all.
SLIPWAY_HOST_DEVICE inline std::uint32_t EncodeE2M1Magnitude(float quotient) {
  const float halves = fmaf(quotient, 2.0F, 0x1.8p23F);  // the last place is 1
  const float ones = quotient + (0x1.8p23F + 2.0F);
  const float twos = fmaf(quotient, 0.5F, 0x1.8p23F + 4.0F);
  // Of floats above zero; on GPUs, integers have a minimum of three.
  return Least(BitsOf(halves), BitsOf(ones), BitsOf(twos));
}
inline constexpr float kSmallQuotient = 0x1.BFp2F;  // up to here EncodeE2M1Magnitude may be used

// The element nearest to a quotient that is none of integers', both without sign. Added to a number whose last place is
// the element's in the quotient's binade, it is rounded to one.
template <Element kElement>
SLIPWAY_HOST_DEVICE inline float NearestMagnitude(float quotient) {
  static_assert(kElement == Element::kE4M3 || kElement == Element::kE2M1);
  constexpr bool kNarrow = kElement == Element::kE2M1;
  constexpr std::uint32_t kSmallestNormal = kNarrow ? 0x3F800000U : 0x3C800000U;  // 1, 2^-6
  constexpr float kUp = kNarrow ? 0x1p22F : 0x1p20F;
  const float within = fminf(quotient, LargestElement(kElement));
  const std::uint32_t bits = BitsOf(within);
  const float binade = FloatOf((bits > kSmallestNormal ? bits : kSmallestNormal) & 0x7F800000U);
  return fmaf(-binade, kUp, fmaf(binade, kUp, within));
}

// The integer element nearest to a quotient.
template <Element kElement>
SLIPWAY_HOST_DEVICE inline float NearestInteger(float quotient) {
  constexpr float kLargest = LargestElement(kElement);
  return (fminf(fmaxf(quotient, -kLargest - 1), kLargest) + 0x1.8p23F) - 0x1.8p23F;
}

// The E2M1 code, in bits 0 to 3, of a quotient that is no -0: as EncodeE2M1 gives it.
SLIPWAY_HOST_DEVICE inline std::uint32_t EncodeE2M1Quotient(float quotient) {
  const float magnitude = fminf(fabsf(quotient), 6.0F);
  // 2^e of the magnitude, 1 below 1. Added to 2^(e + 22), whose last place is the element's, it is rounded to one.
  const std::uint32_t bits = BitsOf(magnitude);
  const std::uint32_t binade = (bits > 0x3F800000U ? bits : 0x3F800000U) & 0x7F800000U;
  const std::uint32_t sum = BitsOf(fmaf(FloatOf(binade), 0x1p22F, magnitude));
  // 2 * e + what is in the last places: the exponent is e + 149.
  const std::uint32_t code = (sum >> 22) + sum - 298;
  return (code & 7) | ((BitsOf(quotient) >> 28) & 8);
}

}  // namespace slipway::engine
