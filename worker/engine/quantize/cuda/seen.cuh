// What threads have seen of a row, apart from sums.
#pragma once

#include <cstdint>

#include "worker/engine/quantize/cuda/device_values.cuh"

namespace slipway::engine {

// What one thread has seen of a row.
struct Seen {
  float amax = 0;
  float largest_error = 0;
  unsigned saturated = 0;
  unsigned zeros = 0;
};

// What all threads have seen, known to thread 0.
struct Gathered {
  std::uint32_t amax;
  std::uint32_t largest_error;
  unsigned long long saturated;
  unsigned long long zeros;
};

// Called by whole warps; `gathered` is shared and was cleared before.
__device__ __forceinline__ void Gather(const Seen& seen, Gathered& gathered) {
  const std::uint32_t amax = __reduce_max_sync(kWholeWarp, BitsOf(seen.amax));
  const std::uint32_t largest_error = __reduce_max_sync(kWholeWarp, BitsOf(seen.largest_error));
  const unsigned saturated = __reduce_add_sync(kWholeWarp, seen.saturated);
  const unsigned zeros = __reduce_add_sync(kWholeWarp, seen.zeros);
  if (threadIdx.x % 32 == 0) {
    atomicMax(&gathered.amax, amax);
    atomicMax(&gathered.largest_error, largest_error);
    atomicAdd(&gathered.saturated, saturated);
    atomicAdd(&gathered.zeros, zeros);
  }
}

}  // namespace slipway::engine
