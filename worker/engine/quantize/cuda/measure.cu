#include <algorithm>

#include "worker/engine/quantize/cuda/device_values.cuh"
#include "worker/engine/quantize/cuda/geometry.h"
#include "worker/engine/quantize/cuda/kernels.h"

namespace slipway::engine {
namespace {

constexpr int kInFlight = 2;  // vectors that a thread has asked for before it uses the first

template <DType kType>
__device__ __forceinline__ bool IsBad(float value) {
  return (BitsOf(value) & 0x7FFFFFFFU) >= 0x7F800000U;
}

struct Found {
  float amax = 0;
  unsigned long long bad = ~0ULL;
};

template <DType kType>
__device__ __forceinline__ void Note(float value, std::int64_t index, Found& found) {
  if (IsBad<kType>(value)) {
    found.bad = min(found.bad, static_cast<unsigned long long>(index));
  } else {
    found.amax = fmaxf(found.amax, fabsf(value));
  }
}

template <DType kType>
__device__ __forceinline__ void Note(const Vector<kType>& vector, std::int64_t number, Found& found) {
  const float largest = Vector<kType>::FromMagnitudeBits(vector.LargestMagnitudeBits());
  if (!IsBad<kType>(largest)) {
    found.amax = fmaxf(found.amax, largest);
    return;
  }
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    Note<kType>(vector.At(i), number * kVector + i, found);
  }
}

template <DType kType>
__global__ void __launch_bounds__(kBlockThreads)
    MeasureValues(const void* values, std::int64_t count, std::int64_t first_index, DeviceMeasured* measured) {
  __shared__ std::uint32_t scratch[32];
  const std::int64_t threads = static_cast<std::int64_t>(gridDim.x) * kBlockThreads;
  const std::int64_t self = static_cast<std::int64_t>(blockIdx.x) * kBlockThreads + threadIdx.x;
  const std::int64_t vectors = count / kVector;
  Found found;
  std::int64_t number = self;
  for (; number + (kInFlight - 1) * threads < vectors; number += kInFlight * threads) {
    Vector<kType> vector[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      vector[i].Load(values, number + i * threads);
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      Note<kType>(vector[i], number + i * threads, found);
    }
  }
  for (; number < vectors; number += threads) {
    Vector<kType> vector;
    vector.Load(values, number);
    Note<kType>(vector, number, found);
  }
  if (vectors * kVector + self < count) {  // the last few, one a thread
    Note<kType>(LoadValue<kType>(values, vectors * kVector + self), vectors * kVector + self, found);
  }
  if (found.bad != ~0ULL) {
    atomicMin(reinterpret_cast<unsigned long long*>(&measured->first_bad),
              found.bad + static_cast<unsigned long long>(first_index));
  }
  const std::uint32_t amax = BlockMaximum(BitsOf(found.amax), scratch);
  if (threadIdx.x == 0 && amax != 0) {
    atomicMax(reinterpret_cast<unsigned long long*>(&measured->amax_bits), static_cast<unsigned long long>(amax));
  }
}

}  // namespace

cudaError_t LaunchMeasure(const DeviceValues& values, std::int64_t first_index, DeviceMeasured* measured,
                          cudaStream_t stream) {
  const std::int64_t count = values.rows * values.columns;
  const std::int64_t wanted =
      std::max<std::int64_t>(CeilingOf(count, std::int64_t{kVector} * kBlockThreads * kInFlight), 1);
  cudaError_t error = cudaSuccess;
  WithValueType(values.dtype, [&]<DType kType>() {
    // As many blocks as run at once: each goes over its share of the values, and all end together.
    int device = 0;
    int multiprocessors = 1;
    int blocks_each = 1;
    for (const cudaError_t step :
         {cudaGetDevice(&device), cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device),
          cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks_each, MeasureValues<kType>, kBlockThreads, 0)}) {
      error = error == cudaSuccess ? step : error;
    }
    if (error == cudaSuccess) {
      const auto grid = static_cast<unsigned>(std::min(wanted, std::int64_t{multiprocessors} * blocks_each));
      MeasureValues<kType><<<grid, kBlockThreads, 0, stream>>>(values.data, count, first_index, measured);
      error = cudaGetLastError();
    }
  });
  return error;
}

}  // namespace slipway::engine
