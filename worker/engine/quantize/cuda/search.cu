// Searched scales of groups of 16-bit values, and the codes: the values are read once and stay in registers while all
// candidates are tried.
#include <algorithm>
#include <span>

#include "worker/engine/quantize/cuda/errors.cuh"
#include "worker/engine/quantize/cuda/geometry.h"
#include "worker/engine/quantize/cuda/group_scales.cuh"
#include "worker/engine/quantize/cuda/kernels.h"
#include "worker/engine/quantize/cuda/transposed.cuh"
#include "worker/engine/quantize/scale_search.h"

namespace slipway::engine {
namespace {

constexpr int kMostCandidates = 16;
constexpr std::int64_t kMostBlocks = 0x7FFFFFFF;

struct Arguments {
  const void* values;
  Blocks blocks;
  Coding coding;
  float tensor_scale;
  RuleDivisors divisors;
  std::uint32_t flip;
  void* codes;  // may be null
  void* scales;
  const float* amaxes;  // may be null
  int count;
  float factors[kMostCandidates];
  std::int8_t steps[kMostCandidates];
};

// The candidates of one group.
template <ScaleRule kRule, Element kElement, DType kType>
class Candidates {
 public:
  // `largest` is the group's own, for the divisors; `amax` what its scale follows from.
  __device__ Candidates(const Arguments& a, float amax, float largest) : amax_(amax), largest_(largest) {
    rule_ = RuleScaleOf<kRule, DType::kF32>(a.coding, a.divisors, amax, a.tensor_scale);  // given ones have any bits
  }

  __device__ std::uint32_t Stored(const Arguments& a, int i) const {
    if constexpr (kRule == ScaleRule::kAmax) {
      const float amax = amax_ * a.factors[i];
      return i == 0 ? rule_ : RoundedScale(a.coding.scale_dtype, amax == 0 ? 1.0F : amax / a.coding.bound);
    } else {
      constexpr int kLeast = kTwoLevels<kRule> ? 1 : 0;
      constexpr int kMost = kTwoLevels<kRule> ? 126 : 254;
      return i == 0 ? rule_ : static_cast<std::uint32_t>(min(max(static_cast<int>(rule_) + a.steps[i], kLeast), kMost));
    }
  }

  // Quotients are limited by NearestElement.
  __device__ DivisorOf<kRule> DivisorFor(const Arguments& a, std::uint32_t stored) const {
    const float scale = EffectiveScaleOf<kRule>(a.coding, a.divisors, stored, a.tensor_scale);
    if constexpr (kPowers<kRule>) {
      return MakePowerDivisor(scale, largest_, kType);
    } else {
      return MakeDivisor(scale, largest_, kType);
    }
  }

 private:
  float amax_;
  float largest_;
  std::uint32_t rule_;
};

// The sum of coding.h over a block of 16 that is a chunk of its own.
template <Element kElement, DType kType, class AnyDivisor>
__device__ __forceinline__ float SquaredErrorOfSixteen(const Vector<kType>& values, const AnyDivisor& divisor) {
  float sums[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (divisor.corrected) {
      sums[i] = SquaredErrorOf<kElement, kType>(values.At(i), divisor) +
                SquaredErrorOf<kElement, kType>(values.At(i + 8), divisor);
    } else {
      const float first = ErrorByDivision<kElement>(values.At(i), divisor.scale);
      const float second = ErrorByDivision<kElement>(values.At(i + 8), divisor.scale);
      sums[i] = first * first + second * second;
    }
  }
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

template <ScaleRule kRule, Element kElement, DType kType>
__device__ __forceinline__ void StoreCodes(const Arguments& a, const Vector<kType>& values, std::uint32_t stored,
                                           float largest, std::int64_t number) {
  if (a.codes != nullptr) {
    const float scale = EffectiveScaleOf<kRule>(a.coding, a.divisors, stored, a.tensor_scale);
    EncodeVector<kElement>(values, MakeDivisorOf<kRule, kElement, kType>(scale, largest), a.flip, a.codes, number);
  }
}

__device__ __forceinline__ std::int64_t ScaleIndexOf(const Arguments& a, std::int64_t group) {
  const std::int64_t across = a.blocks.Across();
  return a.blocks.by_columns ? a.blocks.ScaleIndex(group / across, group % across) : group;
}

// Groups of sixteen: one thread each.
template <ScaleRule kRule, Element kElement, DType kType>
__global__ void __launch_bounds__(kBlockThreads) SearchSixteen(const Arguments a, std::int64_t vectors) {
  const std::int64_t number = static_cast<std::int64_t>(blockIdx.x) * kBlockThreads + threadIdx.x;
  if (number >= vectors) {
    return;
  }
  Vector<kType> values;
  values.Load(a.values, number);
  const float largest = Vector<kType>::FromMagnitudeBits(values.LargestMagnitudeBits());
  const std::int64_t at = ScaleIndexOf(a, number);
  const Candidates<kRule, kElement, kType> candidates(a, a.amaxes != nullptr ? a.amaxes[at] : largest, largest);
  std::uint32_t best = candidates.Stored(a, 0);
  float least = 0;
#pragma unroll 1
  for (int i = 0; i < a.count; ++i) {
    const std::uint32_t stored = candidates.Stored(a, i);
    const float error = SquaredErrorOfSixteen<kElement>(values, candidates.DivisorFor(a, stored));
    if (i == 0 || error < least) {
      least = error;
      best = stored;
    }
  }
  StoreScale(a.scales, at, best, kRule == ScaleRule::kAmax ? a.coding.scale_dtype : DType::kU8);
  StoreCodes<kRule, kElement>(a, values, best, largest, number);
}

// kGroups of a chunk of 128: its lanes in eight threads. All vectors are of whole chunks, and threads of whole warps.
template <ScaleRule kRule, Element kElement, DType kType, int kGroups>
__global__ void __launch_bounds__(kBlockThreads) SearchInChunks(const Arguments a, std::int64_t vectors) {
  __shared__ WarpTile tiles[kBlockThreads / 32];
  constexpr int kThreads = 8 / kGroups;  // of a group
  constexpr int kValues = 16 / kGroups;  // of a group in a lane
  const std::int64_t number = static_cast<std::int64_t>(blockIdx.x) * kBlockThreads + threadIdx.x;
  const bool inside = number < vectors;
  const int lane = static_cast<int>(threadIdx.x % 32);
  Vector<kType> values;
  values.Clear();
  if (inside) {
    values.Load(a.values, number);
  }
  std::uint32_t largest_bits = values.LargestMagnitudeBits();
#pragma unroll
  for (int step = 1; step < kThreads; step *= 2) {
    largest_bits = max(largest_bits, __shfl_xor_sync(kWholeWarp, largest_bits, step));
  }
  const float largest = Vector<kType>::FromMagnitudeBits(largest_bits);
  const std::int64_t at = inside ? ScaleIndexOf(a, number / kThreads) : 0;
  const float amax = a.amaxes != nullptr ? a.amaxes[at] : largest;
  const Vector<kType> transposed = Transposed(values, tiles[threadIdx.x / 32]);
  std::uint32_t mine = 0;
#pragma unroll
  for (int group = 0; group < kGroups; ++group) {
    const int from = 8 * (lane % 4) + group * kThreads;
    const Candidates<kRule, kElement, kType> candidates(a, __shfl_sync(kWholeWarp, amax, from),
                                                        __shfl_sync(kWholeWarp, largest, from));
    std::uint32_t best = candidates.Stored(a, 0);
    float least = 0;
#pragma unroll 1
    for (int i = 0; i < a.count; ++i) {
      const std::uint32_t stored = candidates.Stored(a, i);
      const auto divisor = candidates.DivisorFor(a, stored);
      float sum = 0;
      if (divisor.corrected) {
#pragma unroll
        for (int j = 0; j < kValues; ++j) {
          sum += SquaredErrorOf<kElement, kType>(transposed.At(group * kValues + j), divisor);
        }
      } else {
#pragma unroll
        for (int j = 0; j < kValues; ++j) {
          const float error = ErrorByDivision<kElement>(transposed.At(group * kValues + j), divisor.scale);
          sum += error * error;
        }
      }
      const float error = SumOfTransposedLanes(sum);
      if (i == 0 || error < least) {
        least = error;
        best = stored;
      }
    }
    const std::uint32_t found = __shfl_sync(kWholeWarp, best, lane / 8);  // of the chunk that this thread has read
    mine = lane % 8 / kThreads == group ? found : mine;
  }
  if (!inside) {
    return;
  }
  if (lane % kThreads == 0) {
    StoreScale(a.scales, at, mine, kRule == ScaleRule::kAmax ? a.coding.scale_dtype : DType::kU8);
  }
  StoreCodes<kRule, kElement>(a, values, mine, largest, number);
}

// ---- which kernel, if any ----

bool TakeCandidates(const Coding& coding, Arguments& a) {
  if (coding.rule == ScaleRule::kAmax) {
    const std::span<const float> factors = AmaxFactors(coding.element);
    a.count = static_cast<int>(factors.size());
    if (factors.size() > kMostCandidates) {
      return false;
    }
    std::ranges::copy(factors, a.factors);
    return true;
  }
  const std::span<const std::int8_t> steps = CodeSteps(coding.element, coding.rule);
  a.count = static_cast<int>(steps.size());
  if (steps.size() > kMostCandidates) {
    return false;
  }
  std::ranges::copy(steps, a.steps);
  return true;
}

template <ScaleRule kRule, Element kElement, DType kType>
bool Launch(const Arguments& a, cudaStream_t stream) {
  const std::int64_t vectors = a.blocks.rows * a.blocks.columns / kVector;
  const std::int64_t blocks = CeilingOf(vectors, kBlockThreads);
  const auto grid = static_cast<unsigned>(blocks);
  if (blocks > kMostBlocks || (a.coding.group != kVector && a.blocks.columns % 128 != 0)) {
    return false;
  }
  switch (a.coding.group) {
    case 16:
      SearchSixteen<kRule, kElement, kType><<<grid, kBlockThreads, 0, stream>>>(a, vectors);
      return true;
    case 32:
      SearchInChunks<kRule, kElement, kType, 4><<<grid, kBlockThreads, 0, stream>>>(a, vectors);
      return true;
    case 64:
      if constexpr (kRule == ScaleRule::kAmax) {
        SearchInChunks<kRule, kElement, kType, 2><<<grid, kBlockThreads, 0, stream>>>(a, vectors);
        return true;
      }
      return false;
    case 128:
      if constexpr (kRule == ScaleRule::kAmax) {
        SearchInChunks<kRule, kElement, kType, 1><<<grid, kBlockThreads, 0, stream>>>(a, vectors);
        return true;
      }
      return false;
    default:
      return false;
  }
}

// INT4 by amax, NVFP4, MXFP4: what is searched.
template <DType kType>
bool LaunchOf(const Arguments& a, cudaStream_t stream) {
  if (a.coding.element == Element::kInt4) {
    return a.coding.rule == ScaleRule::kAmax && Launch<ScaleRule::kAmax, Element::kInt4, kType>(a, stream);
  }
  if (a.coding.element != Element::kE2M1) {
    return false;
  }
  switch (a.coding.rule) {
    case ScaleRule::kTwoLevel:
      return Launch<ScaleRule::kTwoLevel, Element::kE2M1, kType>(a, stream);
    case ScaleRule::kTwoLevelReciprocal:
      return Launch<ScaleRule::kTwoLevelReciprocal, Element::kE2M1, kType>(a, stream);
    case ScaleRule::kPowerOfTwo:
      return Launch<ScaleRule::kPowerOfTwo, Element::kE2M1, kType>(a, stream);
    default:
      return false;
  }
}

}  // namespace

bool LaunchSearch(const DeviceJob& job, bool& coded, cudaStream_t stream) {
  const Coding& coding = job.coding;
  Arguments a{.values = job.values.data,
              .blocks = BlocksOf(coding, job.values.rows, job.values.columns),
              .coding = coding,
              .tensor_scale = job.tensor_scale,
              .divisors = RuleDivisorsOf(coding, job.tensor_scale),
              .flip = coding.packing == Packing::kWords ? 0x88888888U : 0,
              .codes = job.codes,
              .scales = job.scales,
              .amaxes = job.amaxes,
              .count = 0,
              .factors = {},
              .steps = {}};
  if (coding.search != ScaleSearch::kSquaredError || coding.sharing != Sharing::kGroup ||
      job.values.columns % kVector != 0 || !TakeCandidates(coding, a)) {
    return false;
  }
  coded = coding.packing == Packing::kNibblePairs || coding.packing == Packing::kWords;
  if (!coded) {
    a.codes = nullptr;
  }
  if (job.values.dtype == DType::kBF16) {
    return LaunchOf<DType::kBF16>(a, stream);
  }
  return job.values.dtype == DType::kF16 && LaunchOf<DType::kF16>(a, stream);
}

}  // namespace slipway::engine
