// Sixteen values to codes of one scale, packed as they lie in memory.
#pragma once

#include <cstdint>

#include "worker/engine/quantize/cuda/device_values.cuh"
#include "worker/engine/quantize/cuda/quotient.h"
#include "worker/engine/quantize/element_codes.h"

namespace slipway::engine {

// The definition, for scales and values of which the short way is not known to give the same; rare, so not inlined.
template <Element kElement>
__device__ __noinline__ std::uint32_t EncodeByDivision(float value, float scale) {
  return Encode(kElement, value / scale);
}

// Two values to E4M3, the first in the low byte.
__device__ __forceinline__ std::uint32_t EncodePairE4M3(float first, float second) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  std::uint16_t codes;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(second), "f"(first));
  return codes;
#else
  return EncodeE4M3(first) | static_cast<std::uint32_t>(EncodeE4M3(second)) << 8;
#endif
}

// Within the largest element, with the value's sign, which QuotientOf loses of a zero.
template <DType kType, class AnyDivisor>
__device__ __forceinline__ float SignedQuotient(float value, const AnyDivisor& divisor) {
  return copysignf(fminf(fabsf(QuotientOf<kType>(value, divisor)), 448.0F), value);
}

// To an integer in two's complement of 8 bits or more.
template <Element kElement, DType kType, class AnyDivisor>
__device__ __forceinline__ std::uint32_t EncodeIntegerQuotient(float value, const AnyDivisor& divisor) {
  constexpr float kLargest = kElement == Element::kInt8 ? 127.0F : 7.0F;
  const float within = fminf(fmaxf(QuotientOf<kType>(value, divisor), -kLargest - 1), kLargest);
  return BitsOf(within + 0x1.8p23F);  // the last place is 1: the FPU rounds to integers
}

// A code in the lowest bits; above them may be others.
template <Element kElement, DType kType, class AnyDivisor>
__device__ __forceinline__ std::uint32_t EncodeOne(float value, const AnyDivisor& divisor) {
  if constexpr (kElement == Element::kE2M1) {
    return EncodeE2M1Quotient(QuotientOf<kType>(value, divisor));
  } else {
    return EncodeIntegerQuotient<kElement, kType>(value, divisor);
  }
}

// Codes of a byte: four words.
template <Element kElement, DType kType, class AnyDivisor>
__device__ __forceinline__ void EncodeBytes(const Vector<kType>& values, const AnyDivisor& divisor,
                                            std::uint32_t (&words)[4]) {
  if (divisor.corrected) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (kElement == Element::kE4M3) {
        words[i] = EncodePairE4M3(SignedQuotient<kType>(values.At(4 * i), divisor),
                                  SignedQuotient<kType>(values.At(4 * i + 1), divisor)) |
                   EncodePairE4M3(SignedQuotient<kType>(values.At(4 * i + 2), divisor),
                                  SignedQuotient<kType>(values.At(4 * i + 3), divisor))
                       << 16;
      } else {
        const std::uint32_t low = __byte_perm(EncodeOne<kElement, kType>(values.At(4 * i), divisor),
                                              EncodeOne<kElement, kType>(values.At(4 * i + 1), divisor), 0x0040);
        const std::uint32_t high = __byte_perm(EncodeOne<kElement, kType>(values.At(4 * i + 2), divisor),
                                               EncodeOne<kElement, kType>(values.At(4 * i + 3), divisor), 0x0040);
        words[i] = __byte_perm(low, high, 0x5410);
      }
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    words[i] = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      words[i] |= EncodeByDivision<kElement>(values.At(4 * i + j), divisor.scale) << (8 * j);
    }
  }
}

// Eight codes of integers of four bits. Each is added, eight times over, to sixteen times what is there: the bits that
// all have above their code add up to a number that is known.
template <DType kType, class AnyDivisor>
__device__ __forceinline__ std::uint32_t EncodeEightIntegers(const Vector<kType>& values, int first,
                                                             const AnyDivisor& divisor) {
  std::uint32_t sum = 0;
#pragma unroll
  for (int i = 7; i >= 0; --i) {
    const float within = fminf(fmaxf(QuotientOf<kType>(values.At(first + i), divisor), -8.0F), 7.0F);
    sum = sum * 16 + BitsOf(within + (0x1.8p23F + 8.0F));
  }
  return (sum - 0x3F400000U) ^ 0x88888888U;
}

// The sign bits of values 2 i and 2 i + 1 of four words, at bits 3 and 7 of byte i.
__device__ __forceinline__ std::uint32_t SignsOfEight(std::uint32_t a, std::uint32_t b, std::uint32_t c,
                                                      std::uint32_t d) {
  const std::uint32_t low = __byte_perm(a, b, 0x7531);
  const std::uint32_t high = __byte_perm(c, d, 0x7531);
  const std::uint32_t even = __byte_perm(low, high, 0x6420);
  const std::uint32_t odd = __byte_perm(low, high, 0x7531);
  return (even >> 4 & 0x08080808U) | (odd & 0x80808080U);
}

// Eight codes of E2M1, of quotients up to kSmallQuotient. Values are of 16 bits.
template <DType kType, class AnyDivisor>
__device__ __forceinline__ std::uint32_t EncodeEightE2M1(const Vector<kType>& values, int first,
                                                         const AnyDivisor& divisor) {
  std::uint32_t sum = 0;
#pragma unroll
  for (int i = 7; i >= 0; --i) {
    sum = sum * 16 + EncodeE2M1Magnitude(QuotientOf<kType>(values.MagnitudeAt(first + i), divisor));
  }
  const int word = first / 2;
  return (sum - 0x3F400000U) |
         SignsOfEight(values.WordWithoutNegativeZeros(word), values.WordWithoutNegativeZeros(word + 1),
                      values.WordWithoutNegativeZeros(word + 2), values.WordWithoutNegativeZeros(word + 3));
}

template <Element kElement, DType kType, class AnyDivisor>
__device__ __forceinline__ std::uint32_t EncodeEight(const Vector<kType>& values, int first,
                                                     const AnyDivisor& divisor) {
  if constexpr (kElement == Element::kInt4) {
    return EncodeEightIntegers(values, first, divisor);
  } else if constexpr (kType != DType::kF32) {
    return EncodeEightE2M1(values, first, divisor);
  } else {
    std::uint32_t word = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      word |= EncodeOne<kElement, kType>(values.At(first + i), divisor) << (4 * i);
    }
    return word;
  }
}

// Codes of four bits, side by side: two words. E2M1's divisor is `corrected` for small quotients alone.
template <Element kElement, DType kType, class AnyDivisor>
__device__ __forceinline__ void EncodeNibbles(const Vector<kType>& values, const AnyDivisor& divisor,
                                              std::uint32_t (&words)[2]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (divisor.corrected) {
      words[i] = EncodeEight<kElement>(values, 8 * i, divisor);
    } else {
      words[i] = 0;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        words[i] |= (EncodeByDivision<kElement>(values.At(8 * i + j), divisor.scale) & 0xF) << (4 * j);
      }
    }
  }
}

// Codes of two rows of the same columns, of four bits: a byte a column, the first row in the low nibble.
template <Element kElement, DType kType, class AnyDivisor>
__device__ __forceinline__ void EncodeNibbleRows(const Vector<kType>& low, const AnyDivisor& low_divisor,
                                                 const Vector<kType>& high, const AnyDivisor& high_divisor,
                                                 std::uint32_t (&words)[4]) {
  std::uint32_t low_words[2];
  std::uint32_t high_words[2];
  EncodeNibbles<kElement>(low, low_divisor, low_words);
  EncodeNibbles<kElement>(high, high_divisor, high_words);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const std::uint32_t even = (low_words[i] & 0x0F0F0F0FU) | (high_words[i] & 0x0F0F0F0FU) << 4;
    const std::uint32_t odd = (low_words[i] >> 4 & 0x0F0F0F0FU) | (high_words[i] & 0xF0F0F0F0U);
    words[2 * i] = __byte_perm(even, odd, 0x5140);
    words[2 * i + 1] = __byte_perm(even, odd, 0x7362);
  }
}

__device__ __forceinline__ void StoreVector(void* codes, std::int64_t number, const std::uint32_t (&words)[4],
                                            std::uint32_t flip) {
  static_cast<uint4*>(codes)[number] = make_uint4(words[0] ^ flip, words[1] ^ flip, words[2] ^ flip, words[3] ^ flip);
}

__device__ __forceinline__ void StoreVector(void* codes, std::int64_t number, const std::uint32_t (&words)[2],
                                            std::uint32_t flip) {
  static_cast<uint2*>(codes)[number] = make_uint2(words[0] ^ flip, words[1] ^ flip);
}

// The codes of vector `number` of a band, of the element's own width. Those with an offset are the others with their
// sign bit flipped.
template <Element kElement, DType kType, class AnyDivisor>
__device__ __forceinline__ void EncodeVector(const Vector<kType>& values, const AnyDivisor& divisor, std::uint32_t flip,
                                             void* codes, std::int64_t number) {
  if constexpr (ElementBits(kElement) == 8) {
    std::uint32_t words[4];
    EncodeBytes<kElement>(values, divisor, words);
    StoreVector(codes, number, words, flip);
  } else {
    std::uint32_t words[2];
    EncodeNibbles<kElement>(values, divisor, words);
    StoreVector(codes, number, words, flip);
  }
}

}  // namespace slipway::engine
