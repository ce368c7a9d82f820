// Values on the device: one by one, and sixteen neighbours at a time in registers.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "worker/engine/dtype.h"
#include "worker/engine/float_bits.h"

namespace slipway::engine {

inline constexpr int kVector = 16;  // values that a thread of a fused kernel has at a time
inline constexpr int kBlockThreads = 256;
inline constexpr unsigned kWholeWarp = 0xFFFFFFFFU;

// Calls `call` with the dtype of values, F32, BF16 or F16, as a constant: call.template operator()<DType::kF32>().
template <typename Call>
void WithValueType(DType dtype, Call call) {
  if (dtype == DType::kF32) {
    call.template operator()<DType::kF32>();
  } else if (dtype == DType::kF16) {
    call.template operator()<DType::kF16>();
  } else {
    call.template operator()<DType::kBF16>();
  }
}

template <DType kType>
__device__ __forceinline__ float LoadValue(const void* values, std::int64_t index) {
  if constexpr (kType == DType::kF32) {
    return __ldg(static_cast<const float*>(values) + index);
  } else {
    const std::uint16_t bits = __ldg(static_cast<const std::uint16_t*>(values) + index);
    return kType == DType::kBF16 ? FromBFloat16(bits) : __half2float(__ushort_as_half(bits));
  }
}

// Sixteen neighbours, as they lie in memory. Indices of At are constants once loops are unrolled.
template <DType kType>
struct Vector {
  static constexpr int kWords = kType == DType::kF32 ? kVector : kVector / 2;
  std::uint32_t words[kWords];

  __device__ __forceinline__ void Clear() {
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      words[i] = 0;
    }
  }

  // The vector of that number from `values` on.
  __device__ __forceinline__ void Load(const void* values, std::int64_t number) {
    const uint4* from = static_cast<const uint4*>(values) + number * (kWords / 4);
#pragma unroll
    for (int i = 0; i < kWords / 4; ++i) {
      const uint4 four = __ldg(from + i);
      words[4 * i] = four.x;
      words[4 * i + 1] = four.y;
      words[4 * i + 2] = four.z;
      words[4 * i + 3] = four.w;
    }
  }

  [[nodiscard]] __device__ __forceinline__ float At(int i) const {
    if constexpr (kType == DType::kF32) {
      return FloatOf(words[i]);
    } else if constexpr (kType == DType::kBF16) {
      return FloatOf(i % 2 == 0 ? words[i / 2] << 16 : words[i / 2] & 0xFFFF0000U);
    } else {
      return __half2float(__ushort_as_half(static_cast<std::uint16_t>(words[i / 2] >> (16 * (i % 2)))));
    }
  }

  [[nodiscard]] __device__ __forceinline__ float MagnitudeAt(int i) const {
    if constexpr (kType == DType::kBF16) {
      const std::uint32_t magnitudes = words[i / 2] & 0x7FFF7FFFU;  // which LargestMagnitudeBits has made, too
      return FloatOf(i % 2 == 0 ? magnitudes << 16 : magnitudes & 0xFFFF0000U);
    } else {
      return fabsf(At(i));
    }
  }

  // Bits without signs, compared as integers: of 16-bit values two at a time.
  [[nodiscard]] __device__ __forceinline__ std::uint32_t LargestMagnitudeBits() const {
    constexpr std::uint32_t kUnsigned = kType == DType::kF32 ? 0x7FFFFFFFU : 0x7FFF7FFFU;
    std::uint32_t largest = 0;
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      const std::uint32_t magnitudes = words[i] & kUnsigned;
      largest = kType == DType::kF32 ? max(largest, magnitudes) : __vmaxu2(largest, magnitudes);
    }
    return kType == DType::kF32 ? largest : max(largest & 0xFFFFU, largest >> 16);
  }

  // -0 to 0; the others as they are.
  [[nodiscard]] __device__ __forceinline__ std::uint32_t WordWithoutNegativeZeros(int i) const {
    std::uint32_t sum = words[i];
    if constexpr (kType == DType::kBF16) {
      asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(words[i]), "r"(0x3F803F80U), "r"(0U));
    } else if constexpr (kType == DType::kF16) {
      asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(words[i]), "r"(0x3C003C00U), "r"(0U));
    }
    return sum;
  }

  // The float whose bits LargestMagnitudeBits gives.
  [[nodiscard]] static __device__ __forceinline__ float FromMagnitudeBits(std::uint32_t bits) {
    if constexpr (kType == DType::kF32) {
      return FloatOf(bits);
    } else if constexpr (kType == DType::kBF16) {
      return FloatOf(bits << 16);
    } else {
      return __half2float(__ushort_as_half(static_cast<std::uint16_t>(bits)));
    }
  }
};

// The largest of a block's threads, for all of them. Called by the whole block; the number of threads is a multiple of
// 32. `scratch` is shared, 32 wide, and free again after the next __syncthreads.
__device__ __forceinline__ std::uint32_t BlockMaximum(std::uint32_t value, std::uint32_t* scratch) {
  value = __reduce_max_sync(kWholeWarp, value);
  const unsigned warp = threadIdx.x / 32;
  const unsigned lane = threadIdx.x % 32;
  if (lane == 0) {
    scratch[warp] = value;
  }
  __syncthreads();
  return __reduce_max_sync(kWholeWarp, lane < blockDim.x / 32 ? scratch[lane] : 0);
}

__device__ __forceinline__ void StoreScale(void* scales, std::int64_t index, std::uint32_t stored, DType dtype) {
  if (dtype == DType::kF32) {
    static_cast<std::uint32_t*>(scales)[index] = stored;
  } else if (dtype == DType::kBF16 || dtype == DType::kF16) {
    static_cast<std::uint16_t*>(scales)[index] = static_cast<std::uint16_t>(stored);
  } else {
    static_cast<std::uint8_t*>(scales)[index] = static_cast<std::uint8_t>(stored);
  }
}

__device__ __forceinline__ std::uint32_t LoadScale(const void* scales, std::int64_t index, DType dtype) {
  if (dtype == DType::kF32) {
    return static_cast<const std::uint32_t*>(scales)[index];
  }
  if (dtype == DType::kBF16 || dtype == DType::kF16) {
    return static_cast<const std::uint16_t*>(scales)[index];
  }
  return static_cast<const std::uint8_t*>(scales)[index];
}

}  // namespace slipway::engine
