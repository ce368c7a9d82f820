// Statistics of 16-bit values: a block of threads a row, each thread reads sixteen neighbours with their scale, and
// adds up a lane of a chunk.
#include <algorithm>

#include "worker/engine/quantize/cuda/errors.cuh"
#include "worker/engine/quantize/cuda/geometry.h"
#include "worker/engine/quantize/cuda/group_scales.cuh"
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
  std::int64_t rows;
  std::int64_t columns;
  Coding coding;
  float tensor_scale;
  RuleDivisors divisors;
  const void* scales;
  std::int64_t block_rows;
  std::int64_t by_row;    // how far the scale of the next row of blocks lies
  std::int64_t by_block;  // and of the next block of a row
  int shift;              // log2 of the vectors of a row of a block; of whole rows, a large one
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
__device__ __forceinline__ void Add(float value, float element, float error, bool saturated, Sums& sums, Seen& seen) {
  const float squared_error = error * error;
  const float squared_value = value * value;
  sums.errors += squared_error;
  sums.squares += squared_value;
  seen.largest_error = fmaxf(seen.largest_error, fabsf(error));
  seen.saturated += saturated ? 1 : 0;
  seen.zeros += value != 0 && element == 0 ? 1 : 0;
}

// The quotient, and the element nearest to it.
template <Element kElement>
__device__ __noinline__ float2 ElementByDivision(float value, float scale) {
  const float quotient = value / scale;
  return {quotient, Decode(kElement, Encode(kElement, quotient))};
}

// The sixteen values of a lane; those of word k have the scale of vector k of the chunk.
template <Element kElement, DType kType, class AnyDivisor>
__device__ __forceinline__ Sums SumsOfLane(const Vector<kType>& values, const WarpScales& scales, bool corrected,
                                           Seen& seen) {
  constexpr bool kFloats = kElement == Element::kE4M3 || kElement == Element::kE2M1;
  const int first = 8 * static_cast<int>(threadIdx.x % 4);
  Sums sums;
  if (corrected) {
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      AnyDivisor divisor;
      divisor.scale = scales.scales[first + i / 2];
      divisor.reciprocal = scales.reciprocals[first + i / 2];
      const float value = values.At(i);
      const float quotient = QuotientOf<kType>(value, divisor);
      float element = 0;
      if constexpr (kFloats) {
        element = NearestMagnitude<kElement>(fabsf(quotient));
      } else {
        element = NearestInteger<kElement>(quotient);
      }
      Add(value, element, ErrorOfElement<kElement>(value, element, divisor.scale),
          fabsf(quotient) > LargestElement(kElement), sums, seen);
    }
  } else {
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const float scale = scales.scales[first + i / 2];
      const float value = values.At(i);
      const float2 found = ElementByDivision<kElement>(value, scale);
      const float product = found.y * scale;
      Add(value, found.y, value - product, fabsf(found.x) > LargestElement(kElement), sums, seen);
    }
  }
  return sums;
}

// The scale of a row's vector.
template <ScaleRule kRule>
__device__ __forceinline__ float ScaleOf(const Arguments& a, std::int64_t down, int place) {
  if (a.coding.sharing == Sharing::kTensor) {
    return a.tensor_scale;
  }
  const std::int64_t at = down * a.by_row + (place >> a.shift) * a.by_block;
  const std::uint32_t stored = LoadScale(a.scales, at, kRule == ScaleRule::kAmax ? a.coding.scale_dtype : DType::kU8);
  return EffectiveScaleOf<kRule>(a.coding, a.divisors, stored, a.tensor_scale);
}

template <Element kElement, ScaleRule kRule, DType kType>
__global__ void __launch_bounds__(kBlockThreads) MakeShortStatistics(const Arguments a) {
  __shared__ WarpTile tiles[kWarps];
  __shared__ WarpScales warp_scales[kWarps];
  __shared__ float error_sums[kTile];
  __shared__ float value_sums[kTile];
  __shared__ Gathered gathered;
  __shared__ double squared_value;
  const auto vectors = static_cast<int>(a.columns / kVector);
  const auto chunks = static_cast<int>(a.columns / kChunk);
  const auto threads = static_cast<int>(blockDim.x);
  const auto thread = static_cast<int>(threadIdx.x);
  WarpScales& scales = warp_scales[thread / 32];
  for (std::int64_t row = blockIdx.x; row < a.rows; row += gridDim.x) {
    if (thread == 0) {
      gathered = {};
    }
    const std::int64_t down = row / a.block_rows;
    Seen seen;
    double total = 0;  // of thread 0 the squared error, of thread 32 the squared value
    for (int base = 0; base < vectors; base += threads) {
      const int place = base + thread;
      Vector<kType> values;
      values.Clear();
      float scale = 1;
      if (place < vectors) {
        values.Load(a.values, row * vectors + place);
        scale = ScaleOf<kRule>(a, down, place);
      }
      const float amax = Vector<kType>::FromMagnitudeBits(values.LargestMagnitudeBits());
      DivisorOf<kRule> divisor;
      if constexpr (kPowers<kRule>) {
        divisor = MakePowerDivisor(scale, amax, kType);
      } else {
        divisor = MakeDivisor(scale, amax, kType);
      }
      seen.amax = fmaxf(seen.amax, amax);
      const bool corrected = __all_sync(kWholeWarp, divisor.corrected);
      __syncwarp();
      scales.scales[thread % 32] = scale;
      scales.reciprocals[thread % 32] = divisor.reciprocal;
      const Vector<kType> transposed = Transposed(values, tiles[thread / 32]);
      const Sums lane = SumsOfLane<kElement, kType, DivisorOf<kRule>>(transposed, scales, corrected, seen);
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

template <Element kElement, ScaleRule kRule>
bool Launch(const Arguments& a, DType dtype, cudaStream_t stream) {
  // A power of two, so that whole turns fill kTile; two warps at least.
  unsigned threads = 64;
  while (threads < kBlockThreads && threads < a.columns / kVector) {
    threads *= 2;
  }
  const auto grid = static_cast<unsigned>(std::min(a.rows, kMostBlocks));
  if (dtype == DType::kBF16) {
    MakeShortStatistics<kElement, kRule, DType::kBF16><<<grid, threads, 0, stream>>>(a);
    return true;
  }
  if (dtype == DType::kF16) {
    MakeShortStatistics<kElement, kRule, DType::kF16><<<grid, threads, 0, stream>>>(a);
    return true;
  }
  return false;
}

template <Element kElement>
bool LaunchFloats(const Arguments& a, DType dtype, cudaStream_t stream) {
  switch (a.coding.rule) {
    case ScaleRule::kAmax:
      return Launch<kElement, ScaleRule::kAmax>(a, dtype, stream);
    case ScaleRule::kPowerOfTwo:
    case ScaleRule::kPowerOfTwoRounded:  // stored alike
      return Launch<kElement, ScaleRule::kPowerOfTwo>(a, dtype, stream);
    case ScaleRule::kTwoLevel:
      if constexpr (kElement == Element::kE2M1) {
        return Launch<kElement, ScaleRule::kTwoLevel>(a, dtype, stream);
      }
      break;
    case ScaleRule::kTwoLevelReciprocal:
      if constexpr (kElement == Element::kE2M1) {
        return Launch<kElement, ScaleRule::kTwoLevelReciprocal>(a, dtype, stream);
      }
      break;
    case ScaleRule::kRange:
    case ScaleRule::kRangeRounded:
      break;
  }
  return false;
}

}  // namespace

bool LaunchShortStatistics(const DeviceJob& job, cudaStream_t stream) {
  const DeviceValues& values = job.values;
  const Coding& coding = job.coding;
  const Blocks blocks = BlocksOf(coding, values.rows, values.columns);
  Arguments a{values.data,
              values.rows,
              values.columns,
              coding,
              job.tensor_scale,
              RuleDivisorsOf(coding, job.tensor_scale),
              job.scales,
              blocks.block_rows,
              blocks.by_columns ? 1 : blocks.Across(),
              blocks.by_columns ? blocks.Down() : 1,
              0,
              job.statistics};
  if (values.columns % kChunk != 0 || values.columns > 0x40000000) {
    return false;
  }
  while (a.shift < 30 && std::int64_t{kVector} << a.shift < blocks.block_columns) {
    ++a.shift;
  }
  if (std::int64_t{kVector} << a.shift != blocks.block_columns && blocks.block_columns != values.columns) {
    return false;
  }
  switch (coding.element) {
    case Element::kE4M3:
      return LaunchFloats<Element::kE4M3>(a, values.dtype, stream);
    case Element::kE2M1:
      return LaunchFloats<Element::kE2M1>(a, values.dtype, stream);
    case Element::kInt8:
      return coding.rule == ScaleRule::kAmax && Launch<Element::kInt8, ScaleRule::kAmax>(a, values.dtype, stream);
    case Element::kInt4:
      break;
  }
  return coding.rule == ScaleRule::kAmax && Launch<Element::kInt4, ScaleRule::kAmax>(a, values.dtype, stream);
}

}  // namespace slipway::engine
