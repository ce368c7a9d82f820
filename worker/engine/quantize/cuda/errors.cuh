// What quantization makes of a value, the short way: the same as Decode(Encode(value / scale)) * scale.
#pragma once

#include "worker/engine/quantize/cuda/quotient.h"
#include "worker/engine/quantize/element_codes.h"

namespace slipway::engine {

// The element nearest to value / scale, without the sign for floats. The divisor is `corrected`.
template <Element kElement, DType kType, class AnyDivisor>
__device__ __forceinline__ float NearestElement(float value, const AnyDivisor& divisor) {
  if constexpr (kElement == Element::kE4M3 || kElement == Element::kE2M1) {
    return NearestMagnitude<kElement>(QuotientOf<kType>(fabsf(value), divisor));
  } else {
    return NearestInteger<kElement>(QuotientOf<kType>(value, divisor));
  }
}

// value - element * scale, or its negative.
template <Element kElement>
__device__ __forceinline__ float ErrorOfElement(float value, float element, float scale) {
  const float product = element * scale;
  return (kElement == Element::kE4M3 || kElement == Element::kE2M1 ? fabsf(value) : value) - product;
}

// The same from the definition; rare, so not inlined. With the sign.
template <Element kElement>
__device__ __noinline__ float ErrorByDivision(float value, float scale) {
  const float product = Decode(kElement, Encode(kElement, value / scale)) * scale;
  return value - product;
}

template <Element kElement, DType kType, class AnyDivisor>
__device__ __forceinline__ float SquaredErrorOf(float value, const AnyDivisor& divisor) {
  const float error = ErrorOfElement<kElement>(value, NearestElement<kElement, kType>(value, divisor), divisor.scale);
  return error * error;
}

}  // namespace slipway::engine
