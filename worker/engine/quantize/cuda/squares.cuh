// Sums of squares in the order that coding.h gives: eight threads of a warp are the eight lanes of a chunk.
#pragma once

#include <cstdint>

#include "worker/engine/quantize/cuda/device_values.cuh"
#include "worker/engine/quantize/element_codes.h"

namespace slipway::engine {

inline constexpr int kChunk = 128;
inline constexpr int kLanes = 8;
inline constexpr int kTeams = kBlockThreads / kLanes;  // of a block
inline constexpr int kTile = 256;                      // chunks whose sums a block holds at a time

// The lanes' sums to the chunk's, for all of them: each step adds what a neighbour has, and sums of two commute. Called
// by whole warps.
__device__ __forceinline__ float SumOfLanes(float sum) {
  sum += __shfl_xor_sync(kWholeWarp, sum, 4);
  sum += __shfl_xor_sync(kWholeWarp, sum, 2);
  sum += __shfl_xor_sync(kWholeWarp, sum, 1);
  return sum;
}

// What a block's values are divided by, and which code stands for 0.
struct Grid {
  float scale = 1;
  std::int32_t zero_point = 0;
};

// value - element * scale.
__device__ __forceinline__ float ErrorOf(Element element, float value, const Grid& grid) {
  const std::uint32_t code = Encode(element, value / grid.scale, grid.zero_point);
  const float product = Decode(element, static_cast<std::uint8_t>(code), grid.zero_point) * grid.scale;
  return value - product;
}

// A lane's sum of squared errors, of `count` values from `first` on.
template <DType kType>
__device__ __forceinline__ float SquaredErrorOfLane(Element element, const void* values, std::int64_t first, int count,
                                                    const Grid& grid) {
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x % kLanes); i < count; i += kLanes) {
    const float error = ErrorOf(element, LoadValue<kType>(values, first + i), grid);
    const float square = error * error;
    sum += square;
  }
  return sum;
}

// Adds `count` sums, in shared memory, to `total` in order. Of one thread.
__device__ __forceinline__ void AddInOrder(const float* sums, int count, double& total) {
#pragma unroll 8
  for (int i = 0; i < count; ++i) {
    total += static_cast<double>(sums[i]);
  }
}

// The chunk `number` of a region of `columns` wide rows: where it begins and how wide it is.
struct Chunk {
  std::int64_t row;
  std::int64_t column;
  int width;
};

__device__ __forceinline__ Chunk ChunkOf(std::int64_t number, std::int64_t columns) {
  const std::int64_t across = (columns + kChunk - 1) / kChunk;
  const std::int64_t row = number / across;
  const std::int64_t column = (number - row * across) * kChunk;
  return {row, column, static_cast<int>(min(static_cast<std::int64_t>(kChunk), columns - column))};
}

}  // namespace slipway::engine
