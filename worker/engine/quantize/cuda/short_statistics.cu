// Statistics of 16-bit values: a block of threads a row, each thread reads sixteen neighbours with their scale, and adds
// up a lane of a chunk.
#include <algorithm>

#include "worker/engine/quantize/cuda/errors.cuh"
#include "worker/engine/quantize/cuda/geometry.h"
#include "worker/engine/quantize/cuda/kernels.h"
#include "worker/engine/quantize/cuda/seen.cuh"
#include "worker/engine/quantize/cuda/squares.cuh"
#include "worker/engine/quantize/cuda/transposed.cuh"
#include "worker/engine/quantize/scales.h"

namespace slipway::engine {
namespace {

constexpr std::int64_t kMostBlocks = 1 << 20;
constexpr int kWarps = kBlockThreads / 32;

struct Arguments {
  const void* values;
  Blocks blocks;
  Coding coding;
  float tensor_scale;
  const void* scales;
  DeviceRowStatistics* statistics;
};

struct WarpScales {
  float scales[32];  // of the warp's vectors
  float reciprocals[32];
};

// Of a lane of a chunk.
struct Sums {
  float errors = 0;
  float squares = 0;
};

// What one value adds. Of floats, all without signs.
template <Element kElement>
__device__ __forceinline__ void Add(float value, float element, float error, bool saturated, Sums& sums, Seen& seen) {
  const float squared_error = error * error;
  const float squared_value = value * value;
  sums.errors += squared_error;
  sums.squares += squared_value;
  seen.largest_error = fmaxf(seen.largest_error, fabsf(error));
  seen.saturated += saturated ? 1 : 0;
  seen.zeros += value != 0 && element == 0 ? 1 : 0;
}

// The sixteen values of a lane; those of word k have the scale of vector k of the chunk.
template <Element kElement, DType kType>
__device__ __forceinline__ Sums SumsOfLane(const Vector<kType>& values, const WarpScales& scales, bool corrected,
                                           Seen& seen) {
  const int first = 8 * static_cast<int>(threadIdx.x % 4);
  Sums sums;
  if (corrected) {
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const Divisor divisor{scales.scales[first + i / 2], scales.reciprocals[first + i / 2], true};
      const float value = values.At(i);
      const float quotient = QuotientOf<kType>(value, divisor);
      float element;
      if constexpr (kElement == Element::kE4M3 || kElement == Element::kE2M1) {
        element = NearestMagnitude<kElement>(fabsf(quotient));
      } else {
        element = NearestInteger<kElement>(quotient);
      }
      Add<kElement>(value, element, ErrorOfElement<kElement>(value, element, divisor.scale),
                    fabsf(quotient) > LargestElement(kElement), sums, seen);
    }
  } else {
#pragma unroll 1
    for (int i = 0; i < 8; ++i) {
      const float scale = scales.scales[first + i];
#pragma unroll 1
      for (int j = 0; j < 2; ++j) {
        const float value = j == 0 ? values.At(2 * i) : values.At(2 * i + 1);
        const float quotient = value / scale;
        const float element = Decode(kElement, Encode(kElement, quotient));
        const float product = element * scale;
        Add<kElement>(value, element, value - product, fabsf(quotient) > LargestElement(kElement), sums, seen);
      }
    }
  }
  return sums;
}

// The scale of the vector at `column` of a row.
__device__ __forceinline__ float ScaleOf(const Arguments& a, std::int64_t down, std::int64_t column) {
  if (a.coding.sharing == Sharing::kTensor) {
    return a.tensor_scale;
  }
  const std::int64_t at = a.blocks.ScaleIndex(
      down, static_cast<std::uint32_t>(column) / static_cast<std::uint32_t>(a.blocks.block_columns));
  return EffectiveScale(a.coding, LoadScale(a.scales, at, a.coding.scale_dtype), a.tensor_scale);
}

template <Element kElement, DType kType>
__global__ void __launch_bounds__(kBlockThreads) MakeShortStatistics(const Arguments a) {
  __shared__ WarpTile tiles[kWarps];
  __shared__ WarpScales warp_scales[kWarps];
  __shared__ float error_sums[kTile];
  __shared__ float value_sums[kTile];
  __shared__ Gathered gathered;
  __shared__ double squared_value;
  const auto vectors = static_cast<int>(a.blocks.columns / kVector);
  const auto chunks = static_cast<int>(a.blocks.columns / kChunk);
  const auto threads = static_cast<int>(blockDim.x);
  const auto thread = static_cast<int>(threadIdx.x);
  WarpScales& scales = warp_scales[thread / 32];
  for (std::int64_t row = blockIdx.x; row < a.blocks.rows; row += gridDim.x) {
    if (thread == 0) {
      gathered = {};
    }
    const std::int64_t down = row / a.blocks.block_rows;
    Seen seen;
    double total = 0;  // of thread 0 the squared error, of thread 32 the squared value
    for (int base = 0; base < vectors; base += threads) {
      const int place = base + thread;
      Vector<kType> values;
      values.Clear();
      float scale = 1;
      if (place < vectors) {
        values.Load(a.values, row * vectors + place);
        scale = ScaleOf(a, down, static_cast<std::int64_t>(place) * kVector);
      }
      const float amax = Vector<kType>::FromMagnitudeBits(values.LargestMagnitudeBits());
      const Divisor divisor = MakeDivisor(scale, amax, kType);
      seen.amax = fmaxf(seen.amax, amax);
      const bool corrected = __all_sync(kWholeWarp, divisor.corrected);
      __syncwarp();
      scales.scales[thread % 32] = scale;
      scales.reciprocals[thread % 32] = divisor.reciprocal;
      const Vector<kType> transposed = Transposed(values, tiles[thread / 32]);
      const Sums lane = SumsOfLane<kElement>(transposed, scales, corrected, seen);
      const float errors = SumOfTransposedLanes(lane.errors);
      const float squares = SumOfTransposedLanes(lane.squares);
      const int chunk = (base + thread / 32 * 32) / 8 + thread % 4;
      if (thread % 32 < 4 && chunk < chunks) {
        error_sums[chunk % kTile] = errors;
        value_sums[chunk % kTile] = squares;
      }
      // Sums are added up where all have their place, and at the end.
      const int done = min(base + threads, vectors) / 8;
      if (done == chunks || done % kTile == 0) {
        const int count = done % kTile == 0 ? kTile : done % kTile;
        __syncthreads();
        if (thread == 0) {
          AddInOrder(error_sums, count, total);
        } else if (thread == 32) {
          AddInOrder(value_sums, count, total);
        }
        __syncthreads();
      }
    }
    Gather(seen, gathered);
    if (thread == 32) {
      squared_value = total;
    }
    __syncthreads();
    if (thread == 0) {
      a.statistics[row] = {total,
                           squared_value,
                           FloatOf(gathered.amax),
                           FloatOf(gathered.largest_error),
                           static_cast<std::int64_t>(gathered.saturated),
                           static_cast<std::int64_t>(gathered.zeros)};
    }
    __syncthreads();
  }
}

template <DType kType>
void Launch(const Arguments& a, cudaStream_t stream) {
  // A power of two, so that whole turns fill kTile; two warps at least.
  unsigned threads = 64;
  while (threads < kBlockThreads && threads < a.blocks.columns / kVector) {
    threads *= 2;
  }
  const auto grid = static_cast<unsigned>(std::min(a.blocks.rows, kMostBlocks));
  switch (a.coding.element) {
    case Element::kE4M3:
      MakeShortStatistics<Element::kE4M3, kType><<<grid, threads, 0, stream>>>(a);
      return;
    case Element::kE2M1:
      MakeShortStatistics<Element::kE2M1, kType><<<grid, threads, 0, stream>>>(a);
      return;
    case Element::kInt8:
      MakeShortStatistics<Element::kInt8, kType><<<grid, threads, 0, stream>>>(a);
      return;
    case Element::kInt4:
      MakeShortStatistics<Element::kInt4, kType><<<grid, threads, 0, stream>>>(a);
      return;
  }
}

}  // namespace

bool LaunchShortStatistics(const DeviceJob& job, cudaStream_t stream) {
  const DeviceValues& values = job.values;
  const Arguments a{values.data, BlocksOf(job.coding, values.rows, values.columns),
                    job.coding,  job.tensor_scale,
                    job.scales,  job.statistics};
  if (values.columns % kChunk != 0 || values.columns > 0x40000000 || a.blocks.block_columns % kVector != 0) {
    return false;
  }
  if (values.dtype == DType::kBF16) {
    Launch<DType::kBF16>(a, stream);
    return true;
  }
  if (values.dtype == DType::kF16) {
    Launch<DType::kF16>(a, stream);
    return true;
  }
  return false;
}

}  // namespace slipway::engine
