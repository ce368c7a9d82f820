// What quantization did to each row, and the errors of scales for whole tensors: a block of threads a row.
#include <algorithm>

#include "worker/engine/quantize/cuda/geometry.h"
#include "worker/engine/quantize/cuda/kernels.h"
#include "worker/engine/quantize/cuda/seen.cuh"
#include "worker/engine/quantize/cuda/squares.cuh"
#include "worker/engine/quantize/scales.h"

namespace slipway::engine {
namespace {

constexpr std::int64_t kMostBlocks = 1 << 20;

struct Arguments {
  const void* values;
  Blocks blocks;
  Coding coding;
  float tensor_scale;
  const void* scales;
  const std::int8_t* zero_points;
  DeviceRowStatistics* statistics;
};

// The grids along one row, each computed once for the values that share it.
class RowGrids {
 public:
  __device__ RowGrids(const Arguments& a, std::int64_t row)
      : a_(a), down_(row / a.blocks.block_rows), grid_{a.tensor_scale, 0} {}

  // Columns rise from call to call.
  __device__ const Grid& At(std::int64_t column) {
    if (a_.coding.sharing == Sharing::kTensor) {
      return grid_;
    }
    if (column >= end_) {
      const std::int64_t place = column / a_.blocks.block_columns;
      end_ = (place + 1) * a_.blocks.block_columns;
      const std::int64_t number = a_.blocks.ScaleIndex(down_, place);
      grid_.scale = EffectiveScale(a_.coding, LoadScale(a_.scales, number, a_.coding.scale_dtype), a_.tensor_scale);
      grid_.zero_point = a_.zero_points == nullptr ? 0 : a_.zero_points[number];
    }
    return grid_;
  }

 private:
  const Arguments& a_;
  std::int64_t down_;
  std::int64_t end_ = 0;
  Grid grid_;
};

__device__ __forceinline__ bool Saturates(const Arguments& a, float quotient, const Grid& grid) {
  if (a.zero_points == nullptr) {
    return fabsf(quotient) > LargestElement(a.coding.element);
  }
  const auto zero = static_cast<float>(grid.zero_point);
  return quotient < -8 - zero || quotient > 7 - zero;
}

// A lane of a chunk: its sums of squared errors and of squared values.
template <DType kType>
__device__ __forceinline__ float2 SquaresOfLane(const Arguments& a, std::int64_t row, const Chunk& chunk,
                                                RowGrids& grids, Seen& seen) {
  const Element element = a.coding.element;
  float errors = 0;
  float squares = 0;
  for (int i = static_cast<int>(threadIdx.x % kLanes); i < chunk.width; i += kLanes) {
    const std::int64_t column = chunk.column + i;
    const float value = LoadValue<kType>(a.values, row * a.blocks.columns + column);
    const Grid& grid = grids.At(column);
    const float quotient = value / grid.scale;
    const std::uint32_t code = Encode(element, quotient, grid.zero_point);
    const float decoded = Decode(element, static_cast<std::uint8_t>(code), grid.zero_point);
    const float product = decoded * grid.scale;
    const float error = value - product;
    const float squared_error = error * error;
    const float squared_value = value * value;
    errors += squared_error;
    squares += squared_value;
    seen.amax = fmaxf(seen.amax, fabsf(value));
    seen.largest_error = fmaxf(seen.largest_error, fabsf(error));
    seen.saturated += Saturates(a, quotient, grid) ? 1 : 0;
    seen.zeros += value != 0 && decoded == 0 ? 1 : 0;
  }
  return {errors, squares};
}

template <DType kType>
__global__ void __launch_bounds__(kBlockThreads) MakeStatistics(const Arguments a) {
  __shared__ float error_sums[kTile];
  __shared__ float value_sums[kTile];
  __shared__ Gathered gathered;
  __shared__ double squared_value;
  const std::int64_t chunks = CeilingOf(a.blocks.columns, kChunk);
  for (std::int64_t row = blockIdx.x; row < a.blocks.rows; row += gridDim.x) {
    if (threadIdx.x == 0) {
      gathered = {};
    }
    RowGrids grids(a, row);
    Seen seen;
    double total = 0;  // of thread 0 the squared error, of thread 32 the squared value
    for (std::int64_t base = 0; base < chunks; base += kTile) {
      const auto count = static_cast<int>(min(static_cast<std::int64_t>(kTile), chunks - base));
      for (int first = 0; first < count; first += kTeams) {
        const int wanted = first + static_cast<int>(threadIdx.x / kLanes);
        Chunk chunk = ChunkOf(base + min(wanted, count - 1), a.blocks.columns);
        chunk.width = wanted < count ? chunk.width : 0;  // nothing is counted twice
        const float2 lane = SquaresOfLane<kType>(a, row, chunk, grids, seen);
        const float errors = SumOfLanes(lane.x);
        const float squares = SumOfLanes(lane.y);
        if (threadIdx.x % kLanes == 0 && wanted < count) {
          error_sums[wanted] = errors;
          value_sums[wanted] = squares;
        }
      }
      __syncthreads();
      if (threadIdx.x == 0) {
        AddInOrder(error_sums, count, total);
      } else if (threadIdx.x == 32) {
        AddInOrder(value_sums, count, total);
      }
      __syncthreads();
    }
    Gather(seen, gathered);
    if (threadIdx.x == 32) {
      squared_value = total;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
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

struct ErrorArguments {
  const void* values;
  std::int64_t rows;
  std::int64_t columns;
  Element element;
  const float* scales;
  std::int64_t count;
  double* errors;
};

// A block of threads for each row and scale.
template <DType kType>
__global__ void __launch_bounds__(kBlockThreads) SumSquaredErrors(const ErrorArguments a) {
  __shared__ float sums[kTile];
  const std::int64_t chunks = CeilingOf(a.columns, kChunk);
  for (std::int64_t task = blockIdx.x; task < a.rows * a.count; task += gridDim.x) {
    const std::int64_t row = task / a.count;
    const float scale = a.scales[task - row * a.count];
    double total = 0;
    for (std::int64_t base = 0; base < chunks; base += kTile) {
      const auto count = static_cast<int>(min(static_cast<std::int64_t>(kTile), chunks - base));
      for (int first = 0; first < count; first += kTeams) {
        const int wanted = first + static_cast<int>(threadIdx.x / kLanes);
        const Chunk chunk = ChunkOf(base + min(wanted, count - 1), a.columns);
        const float sum = SumOfLanes(
            SquaredErrorOfLane<kType>(a.element, a.values, row * a.columns + chunk.column, chunk.width, {scale, 0}));
        if (threadIdx.x % kLanes == 0 && wanted < count) {
          sums[wanted] = sum;
        }
      }
      __syncthreads();
      if (threadIdx.x == 0) {
        AddInOrder(sums, count, total);
      }
      __syncthreads();
    }
    if (threadIdx.x == 0) {
      a.errors[task] = total;
    }
  }
}

}  // namespace

void LaunchStatistics(const DeviceJob& job, cudaStream_t stream) {
  const DeviceValues& values = job.values;
  const Arguments arguments{values.data,   BlocksOf(job.coding, values.rows, values.columns),
                            job.coding,    job.tensor_scale,
                            job.scales,    job.zero_points,
                            job.statistics};
  const auto grid = static_cast<unsigned>(std::min(values.rows, kMostBlocks));
  WithValueType(values.dtype,
                [&]<DType kType>() { MakeStatistics<kType><<<grid, kBlockThreads, 0, stream>>>(arguments); });
}

cudaError_t LaunchSquaredErrors(const Coding& coding, const DeviceValues& values, const float* scales,
                                std::int64_t count, double* errors, cudaStream_t stream) {
  const ErrorArguments arguments{values.data, values.rows, values.columns, coding.element, scales, count, errors};
  const auto grid = static_cast<unsigned>(std::min(values.rows * count, kMostBlocks));
  if (grid == 0) {
    return cudaSuccess;
  }
  WithValueType(values.dtype,
                [&]<DType kType>() { SumSquaredErrors<kType><<<grid, kBlockThreads, 0, stream>>>(arguments); });
  return cudaGetLastError();
}

cudaError_t LaunchQuantize(const DeviceJob& job, cudaStream_t stream) {
  if (!LaunchFused(job, stream) && !LaunchWords(job, false, stream)) {
    bool coded = false;
    if (job.coding.sharing != Sharing::kTensor && !LaunchSearch(job, coded, stream)) {
      coded = false;
      LaunchScales(job, stream);
    }
    if (job.codes != nullptr && !coded && !LaunchWords(job, true, stream)) {
      LaunchCodes(job, stream);
    }
  }
  if (job.statistics != nullptr && !LaunchShortStatistics(job, stream)) {
    LaunchStatistics(job, stream);
  }
  return cudaGetLastError();
}

}  // namespace slipway::engine
