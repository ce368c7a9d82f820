// The 32 vectors of a warp, 16-bit values, as the sums of coding.h want them: thread 4 j + c gets the 16 values of lane
// j of chunk c, in order, two in each word.
#pragma once

#include <cstdint>

#include "worker/engine/quantize/cuda/device_values.cuh"

namespace slipway::engine {

struct WarpTile {
  uint4 rows[4][18];  // eight neighbours each; 16 of a chunk, and a gap that keeps chunks in different banks
};

// Called by whole warps, each with a tile of its own.
template <DType kType>
__device__ __forceinline__ Vector<kType> Transposed(const Vector<kType>& values, WarpTile& tile) {
  static_assert(kType != DType::kF32);
  const unsigned lane = threadIdx.x % 32;
  uint4* at = &tile.rows[lane / 8][2 * (lane % 8)];
  __syncwarp();  // what was there has been read
  at[0] = make_uint4(values.words[0], values.words[1], values.words[2], values.words[3]);
  at[1] = make_uint4(values.words[4], values.words[5], values.words[6], values.words[7]);
  __syncwarp();
  Vector<kType> transposed;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    // Matrix k of eight has rows 2 k and 2 k + 1 of all four chunks; transposed, four threads have a column of it.
    const unsigned matrix = 4 * half + lane / 8;
    const uint4* row = &tile.rows[lane % 8 / 2][2 * matrix + lane % 2];
    std::uint32_t* to = transposed.words + 4 * half;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row)))
                 : "memory");
  }
  return transposed;
}

// Lanes' sums to the chunk's, for all eight threads that have its lanes.
__device__ __forceinline__ float SumOfTransposedLanes(float sum) {
  sum += __shfl_xor_sync(kWholeWarp, sum, 16);
  sum += __shfl_xor_sync(kWholeWarp, sum, 8);
  sum += __shfl_xor_sync(kWholeWarp, sum, 4);
  return sum;
}

}  // namespace slipway::engine
