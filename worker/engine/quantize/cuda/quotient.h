// value / scale, correctly rounded, by a product with the scale's reciprocal and two corrections: half of what a
// division costs, once the reciprocal is there. For the host and for GPUs.
//
// With y = 1 / s rounded to nearest, q0 = v * y is within two units of the last place; q1 = q0 + (v - q0 * s) * y is
// faithful; and the same step again gives the quotient rounded to nearest (Markstein's theorem), as long as nothing
// overflows and the remainders, which are exact, are not below 2^-149. That is so for |v| from 2^-100 and s from 2^-80
// on; below, the quotient is below 2^-19, which every element takes for a zero however it is rounded.
#pragma once

#include <cmath>

#include "worker/engine/dtype.h"
#include "worker/engine/float_bits.h"

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

// Of a Divisor that is `corrected`: value / scale, and +0 for -0.
SLIPWAY_HOST_DEVICE inline float QuotientOf(float value, const Divisor& divisor) {
  const float first = value * divisor.reciprocal;
  const float second = fmaf(fmaf(-first, divisor.scale, value), divisor.reciprocal, first);
  return fmaf(fmaf(-second, divisor.scale, value), divisor.reciprocal, second);
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
