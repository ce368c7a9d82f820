// The scale of each block, by the rule or by the search: for the jobs that the fused kernels do not take.
#include <algorithm>
#include <array>

#include "worker/engine/quantize/cuda/geometry.h"
#include "worker/engine/quantize/cuda/kernels.h"
#include "worker/engine/quantize/cuda/squares.cuh"
#include "worker/engine/quantize/scale_search.h"
#include "worker/engine/quantize/scales.h"

namespace slipway::engine {
namespace {

constexpr std::int64_t kMostBlocks = 1 << 20;  // of threads; each does several blocks of values then
constexpr int kMostCandidates = 64;

// The scales that are tried, the rule's first.
struct Candidates {
  int count = 1;
  float factors[kMostCandidates] = {1};
  float low_factors[kMostCandidates] = {1};  // of ranges; `factors` are their upper ends' then
  std::int8_t steps[kMostCandidates] = {};
};

struct Arguments {
  const void* values;
  Blocks blocks;
  Coding coding;
  float tensor_scale;
  const float* amaxes;
  void* scales;
  std::int8_t* zero_points;  // of codings that have them, or null
  Candidates candidates;
};

Candidates CandidatesOf(const Coding& coding) {
  Candidates candidates;
  if (coding.search == ScaleSearch::kAmax) {
    return candidates;
  }
  if (HasZeroPoints(coding.rule)) {
    const std::span<const RangeFactors> factors = FactorsOfRanges();
    candidates.count = static_cast<int>(std::min<std::size_t>(factors.size(), kMostCandidates));
    for (std::size_t i = 0; i < static_cast<std::size_t>(candidates.count); ++i) {
      candidates.low_factors[i] = factors[i].low;
      candidates.factors[i] = factors[i].high;
    }
  } else if (coding.rule == ScaleRule::kAmax) {
    const std::span<const float> factors = AmaxFactors(coding.element);
    candidates.count = static_cast<int>(std::min<std::size_t>(factors.size(), kMostCandidates));
    std::copy_n(factors.begin(), candidates.count, candidates.factors);
  } else {
    const std::span<const std::int8_t> steps = CodeSteps(coding.element, coding.rule);
    candidates.count = static_cast<int>(std::min<std::size_t>(steps.size(), kMostCandidates));
    std::copy_n(steps.begin(), candidates.count, candidates.steps);
    std::fill_n(candidates.factors, candidates.count, 1.0F);
  }
  return candidates;
}

// What is known of a block's values: the largest magnitude, or of rules of ranges how far they reach above 0 and below.
struct Reach {
  std::uint32_t above = 0;  // or the magnitude; both bits of floats
  std::uint32_t below = 0;
};

__device__ __forceinline__ void Extend(Reach& reach, bool is_range, float value) {
  if (is_range) {
    reach.above = max(reach.above, value > 0 ? BitsOf(value) : 0U);
    reach.below = max(reach.below, value < 0 ? BitsOf(-value) : 0U);
  } else {
    reach.above = max(reach.above, BitsOf(fabsf(value)));
  }
}

// A grid and what is stored of its scale.
struct StoredGrid {
  std::uint32_t scale = 0;
  Grid grid;
};

__device__ __forceinline__ StoredGrid CandidateGrid(const Arguments& a, const Reach& reach, int i) {
  const float above = FloatOf(reach.above);
  if (HasZeroPoints(a.coding.rule)) {
    const Range range{-FloatOf(reach.below) * a.candidates.low_factors[i], above * a.candidates.factors[i]};
    const std::uint32_t stored = RangeScale(a.coding, range);
    const float scale = EffectiveScale(a.coding, stored, a.tensor_scale);
    return {stored, {scale, ZeroPoint(a.coding, range, scale)}};
  }
  const std::uint32_t stored =
      i == 0 ? RuleScale(a.coding, above, a.tensor_scale)
             : NeighbourScale(a.coding, above, a.tensor_scale, a.candidates.factors[i], a.candidates.steps[i]);
  return {stored, {EffectiveScale(a.coding, stored, a.tensor_scale), 0}};
}

__device__ __forceinline__ void StoreGrid(const Arguments& a, std::int64_t number, const StoredGrid& best) {
  StoreScale(a.scales, number, best.scale, a.coding.scale_dtype);
  if (a.zero_points != nullptr) {
    a.zero_points[number] = static_cast<std::int8_t>(best.grid.zero_point);
  }
}

// Blocks in one row of at most a chunk: eight threads a block.
template <DType kType>
__global__ void __launch_bounds__(kBlockThreads) ScaleNarrow(const Arguments a) {
  const std::int64_t across = a.blocks.Across();
  const std::int64_t total = a.blocks.Down() * across;
  const int lane = static_cast<int>(threadIdx.x % kLanes);
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kTeams;
  // All threads of a warp go round equally often: those past the end do the last block again and store nothing.
  for (std::int64_t base = static_cast<std::int64_t>(blockIdx.x) * kTeams; base < total; base += stride) {
    const std::int64_t wanted = base + threadIdx.x / kLanes;
    const std::int64_t block = min(wanted, total - 1);
    const std::int64_t row = block / across;
    const std::int64_t place = block - row * across;
    const std::int64_t first = row * a.blocks.columns + place * a.blocks.block_columns;
    const auto width = static_cast<int>(a.blocks.block_columns);
    const std::int64_t scale = a.blocks.ScaleIndex(row, place);
    Reach reach;
    for (int i = lane; i < width; i += kLanes) {
      Extend(reach, a.zero_points != nullptr, LoadValue<kType>(a.values, first + i));
    }
    for (int step = 1; step < kLanes; step *= 2) {
      reach.above = max(reach.above, __shfl_xor_sync(kWholeWarp, reach.above, step));
      reach.below = max(reach.below, __shfl_xor_sync(kWholeWarp, reach.below, step));
    }
    if (a.amaxes != nullptr) {
      reach = {BitsOf(a.amaxes[scale]), BitsOf(a.amaxes[scale])};
    }
    StoredGrid best = CandidateGrid(a, reach, 0);
    double least = 0;
    for (int i = 0; i < a.candidates.count && a.candidates.count > 1; ++i) {
      const StoredGrid candidate = CandidateGrid(a, reach, i);
      const float lane_error = SquaredErrorOfLane<kType>(a.coding.element, a.values, first, width, candidate.grid);
      const auto error = static_cast<double>(SumOfLanes(lane_error));
      if (i == 0 || error < least) {
        least = error;
        best = candidate;
      }
    }
    if (lane == 0 && wanted < total) {
      StoreGrid(a, scale, best);
    }
  }
}

// A region of the band: the values of one block.
struct Region {
  std::int64_t row;
  std::int64_t column;
  std::int64_t rows;
  std::int64_t columns;
};

// The squared error of a region under a scale, known to thread 0. Called by the whole block of threads.
template <DType kType>
__device__ double SquaredErrorOfRegion(const Arguments& a, const Region& region, const Grid& grid, float* sums) {
  const std::int64_t chunks = region.rows * CeilingOf(region.columns, kChunk);
  double total = 0;
  for (std::int64_t base = 0; base < chunks; base += kTile) {
    const auto count = static_cast<int>(min(static_cast<std::int64_t>(kTile), chunks - base));
    for (int first = 0; first < count; first += kTeams) {
      const int wanted = first + static_cast<int>(threadIdx.x / kLanes);
      const Chunk chunk = ChunkOf(base + min(wanted, count - 1), region.columns);
      const float sum = SumOfLanes(SquaredErrorOfLane<kType>(
          a.coding.element, a.values, (region.row + chunk.row) * a.blocks.columns + region.column + chunk.column,
          chunk.width, grid));
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
  return total;
}

// Any blocks: a block of threads each.
template <DType kType>
__global__ void __launch_bounds__(kBlockThreads) ScaleWide(const Arguments a) {
  __shared__ std::uint32_t scratch[32];
  __shared__ float sums[kTile];
  const std::int64_t across = a.blocks.Across();
  const std::int64_t total = a.blocks.Down() * across;
  for (std::int64_t block = blockIdx.x; block < total; block += gridDim.x) {
    const std::int64_t down = block / across;
    const std::int64_t place = block - down * across;
    const std::int64_t row = down * a.blocks.block_rows;
    const std::int64_t column = place * a.blocks.block_columns;
    const Region region{row, column, min(a.blocks.block_rows, a.blocks.rows - row),
                        min(a.blocks.block_columns, a.blocks.columns - column)};
    const std::int64_t scale = a.blocks.ScaleIndex(down, place);
    Reach reach;
    if (a.amaxes != nullptr) {
      reach = {BitsOf(a.amaxes[scale]), BitsOf(a.amaxes[scale])};
    } else {
      Reach own;
      for (std::int64_t i = threadIdx.x; i < region.rows * region.columns; i += kBlockThreads) {
        const std::int64_t at = (row + i / region.columns) * a.blocks.columns + column + i % region.columns;
        Extend(own, a.zero_points != nullptr, LoadValue<kType>(a.values, at));
      }
      reach.above = BlockMaximum(own.above, scratch);
      if (a.zero_points != nullptr) {
        __syncthreads();  // `scratch` is used again
        reach.below = BlockMaximum(own.below, scratch);
      }
    }
    StoredGrid best = CandidateGrid(a, reach, 0);
    double least = 0;
    for (int i = 0; i < a.candidates.count && a.candidates.count > 1; ++i) {
      const StoredGrid candidate = CandidateGrid(a, reach, i);
      const double error = SquaredErrorOfRegion<kType>(a, region, candidate.grid, sums);
      if (i == 0 || error < least) {  // of thread 0 alone
        least = error;
        best = candidate;
      }
    }
    if (threadIdx.x == 0) {
      StoreGrid(a, scale, best);
    }
    __syncthreads();  // `scratch` is used again
  }
}

}  // namespace

void LaunchScales(const DeviceJob& job, cudaStream_t stream) {
  const DeviceValues& values = job.values;
  const Arguments arguments{values.data,     BlocksOf(job.coding, values.rows, values.columns),
                            job.coding,      job.tensor_scale,
                            job.amaxes,      job.scales,
                            job.zero_points, CandidatesOf(job.coding)};
  const std::int64_t blocks = arguments.blocks.Down() * arguments.blocks.Across();
  const bool narrow = arguments.blocks.block_rows == 1 && arguments.blocks.block_columns <= kChunk;
  const auto grid = static_cast<unsigned>(std::min(narrow ? CeilingOf(blocks, kTeams) : blocks, kMostBlocks));
  WithValueType(values.dtype, [&]<DType kType>() {
    if (narrow) {
      ScaleNarrow<kType><<<grid, kBlockThreads, 0, stream>>>(arguments);
    } else {
      ScaleWide<kType><<<grid, kBlockThreads, 0, stream>>>(arguments);
    }
  });
}

}  // namespace slipway::engine
