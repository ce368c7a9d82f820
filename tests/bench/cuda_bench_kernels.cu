#include "tests/bench/cuda_bench_kernels.h"

#include <algorithm>

namespace slipway::bench {
namespace {

constexpr int kThreads = 256;
constexpr int kInFlight = 2;

// Two accesses of 16 bytes a thread, as the fused kernels have.
__global__ void __launch_bounds__(kThreads) Copy(const uint4* from, uint4* to, std::int64_t pairs) {
  const std::int64_t number = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (number < pairs) {
    const std::int64_t block = number / kThreads * kThreads * kInFlight + threadIdx.x;
    const uint4 first = __ldg(from + block);
    const uint4 second = __ldg(from + block + kThreads);
    to[block] = first;
    to[block + kThreads] = second;
  }
}

__global__ void __launch_bounds__(kThreads) Read(const uint4* from, std::int64_t count, std::uint32_t* sink) {
  const std::int64_t threads = static_cast<std::int64_t>(gridDim.x) * kThreads;
  std::uint32_t all = 0;
  std::int64_t number = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  for (; number + 3 * threads < count; number += 4 * threads) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint4 four = __ldg(from + number + i * threads);
      all |= four.x | four.y | four.z | four.w;
    }
  }
  for (; number < count; number += threads) {
    const uint4 four = __ldg(from + number);
    all |= four.x | four.y | four.z | four.w;
  }
  if (all == 0x12345678) {  // never: keeps the loads
    *sink = all;
  }
}

__device__ std::uint32_t Mixed(std::uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7FEB352DU;
  x = (x ^ (x >> 15)) * 0x846CA68BU;
  return x ^ (x >> 16);
}

__global__ void Fill(std::uint16_t* values, std::int64_t count, std::uint32_t seed) {
  const std::int64_t threads = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count; i += threads) {
    std::uint32_t random = Mixed(static_cast<std::uint32_t>(i) + seed * 0x9E3779B9U);
    float sum = -2;
    for (int term = 0; term < 4; ++term) {
      random = Mixed(random + 1);
      sum += static_cast<float>(random) * 0x1p-32F;
    }
    values[i] = static_cast<std::uint16_t>(__float_as_uint(0.02F * 1.7320508F * sum) >> 16);
  }
}

}  // namespace

cudaError_t LaunchCopy(const void* from, void* to, std::int64_t bytes, cudaStream_t stream) {
  const std::int64_t pairs = bytes / (16 * kInFlight) / kThreads * kThreads;  // whole blocks
  Copy<<<static_cast<unsigned>(pairs / kThreads), kThreads, 0, stream>>>(static_cast<const uint4*>(from),
                                                                         static_cast<uint4*>(to), pairs);
  return cudaGetLastError();
}

cudaError_t LaunchRead(const void* from, std::int64_t bytes, std::uint32_t* sink, cudaStream_t stream) {
  int device = 0;
  int multiprocessors = 1;
  int blocks_each = 1;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks_each, Read, kThreads, 0);
  const int grid = multiprocessors * blocks_each;
  Read<<<grid, kThreads, 0, stream>>>(static_cast<const uint4*>(from), bytes / 16, sink);
  return cudaGetLastError();
}

cudaError_t LaunchFill(void* values, std::int64_t count, std::uint32_t seed, cudaStream_t stream) {
  Fill<<<2048, kThreads, 0, stream>>>(static_cast<std::uint16_t*>(values), count, seed);
  return cudaGetLastError();
}

}  // namespace slipway::bench
