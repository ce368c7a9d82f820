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
__device__ __forceinline__ float SignedQuotient(float value, const Divisor& divisor) {
  return copysignf(fminf(fabsf(QuotientOf(value, divisor)), 448.0F), value);
}

// To an integer in two's complement of 8 bits or more.
template <Element kElement>
__device__ __forceinline__ std::uint32_t EncodeIntegerQuotient(float value, const Divisor& divisor) {
  constexpr float kLargest = kElement == Element::kInt8 ? 127.0F : 7.0F;
  const float within = fminf(fmaxf(QuotientOf(value, divisor), -kLargest - 1), kLargest);
  return BitsOf(within + 0x1.8p23F);  // the last place is 1: the FPU rounds to integers
}

// A code in the lowest bits; above them may be others.
template <Element kElement>
__device__ __forceinline__ std::uint32_t EncodeOne(float value, const Divisor& divisor) {
  if constexpr (kElement == Element::kE2M1) {
    return EncodeE2M1Quotient(QuotientOf(value, divisor));
  } else {
    return EncodeIntegerQuotient<kElement>(value, divisor);
  }
}

// Codes of a byte: four words.
template <Element kElement, DType kType>
__device__ __forceinline__ void EncodeBytes(const Vector<kType>& values, const Divisor& divisor,
                                            std::uint32_t (&words)[4]) {
  if (divisor.corrected) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (kElement == Element::kE4M3) {
        words[i] =
            EncodePairE4M3(SignedQuotient(values.At(4 * i), divisor), SignedQuotient(values.At(4 * i + 1), divisor)) |
            EncodePairE4M3(SignedQuotient(values.At(4 * i + 2), divisor), SignedQuotient(values.At(4 * i + 3), divisor))
                << 16;
      } else {
        const std::uint32_t low = __byte_perm(EncodeOne<kElement>(values.At(4 * i), divisor),
                                              EncodeOne<kElement>(values.At(4 * i + 1), divisor), 0x0040);
        const std::uint32_t high = __byte_perm(EncodeOne<kElement>(values.At(4 * i + 2), divisor),
                                               EncodeOne<kElement>(values.At(4 * i + 3), divisor), 0x0040);
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

// Codes of four bits, side by side: two words.
template <Element kElement, DType kType>
__device__ __forceinline__ void EncodeNibbles(const Vector<kType>& values, const Divisor& divisor,
                                              std::uint32_t (&words)[2]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    std::uint32_t word = 0;
    if (divisor.corrected) {
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        word |= (EncodeOne<kElement>(values.At(8 * i + j), divisor) & 0xF) << (4 * j);
      }
    } else {
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        word |= (EncodeByDivision<kElement>(values.At(8 * i + j), divisor.scale) & 0xF) << (4 * j);
      }
    }
    words[i] = word;
  }
}

// Codes of two rows of the same columns, of four bits: a byte a column, the first row in the low nibble.
template <Element kElement, DType kType>
__device__ __forceinline__ void EncodeNibbleRows(const Vector<kType>& low, const Divisor& low_divisor,
                                                 const Vector<kType>& high, const Divisor& high_divisor,
                                                 std::uint32_t (&words)[4]) {
  std::uint32_t low_words[2];
  std::uint32_t high_words[2];
  EncodeNibbles<kElement>(low, low_divisor, low_words);
  EncodeNibbles<kElement>(high, high_divisor, high_words);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    words[i] = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int from = 4 * ((4 * i + j) % 8);
      words[i] |= ((low_words[i / 2] >> from & 0xF) | (high_words[i / 2] >> from & 0xF) << 4) << (8 * j);
    }
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
template <Element kElement, DType kType>
__device__ __forceinline__ void EncodeVector(const Vector<kType>& values, const Divisor& divisor, std::uint32_t flip,
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
