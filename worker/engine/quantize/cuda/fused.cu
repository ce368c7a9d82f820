// Scales and codes in one pass: the values are read once, sixteen a thread, and stay in registers until both are made.
#include <algorithm>

#include "worker/engine/quantize/cuda/encode.cuh"
#include "worker/engine/quantize/cuda/geometry.h"
#include "worker/engine/quantize/cuda/group_scales.cuh"
#include "worker/engine/quantize/cuda/kernels.h"
#include "worker/engine/quantize/scales.h"

namespace slipway::engine {
namespace {

constexpr std::int64_t kMostBlocks = 0x7FFFFFFF;
constexpr std::int64_t kMostBlocksDown = 0xFFFF;
constexpr int kSquare = 128;

struct Arguments {
  const void* values;
  std::int64_t columns;
  std::int64_t rows;
  Coding coding;
  float tensor_scale;
  RuleDivisors divisors;
  std::uint32_t flip;
  void* codes;   // may be null
  void* scales;  // may be null for kTensor
};

// The block's scale by the rule, stored by whoever `stores`.
template <DType kType>
__device__ __forceinline__ Divisor MakeScale(const Arguments& a, float amax, std::int64_t scale, bool stores) {
  const std::uint32_t stored = RuleScale(a.coding, amax, a.tensor_scale);
  if (stores) {
    StoreScale(a.scales, scale, stored, a.coding.scale_dtype);
  }
  return MakeDivisor(EffectiveScale(a.coding, stored, a.tensor_scale), amax, kType);
}

// The same by a rule that is known here.
template <ScaleRule kRule, Element kElement, DType kType>
__device__ __forceinline__ DivisorOf<kRule> MakeScaleBy(const Arguments& a, float amax, std::int64_t scale,
                                                        bool stores) {
  const std::uint32_t stored = RuleScaleOf<kRule, kType>(a.coding, a.divisors, amax, a.tensor_scale);
  if (stores) {
    StoreScale(a.scales, scale, stored, kRule == ScaleRule::kAmax ? a.coding.scale_dtype : DType::kU8);
  }
  return MakeDivisorOf<kRule, kElement, kType>(EffectiveScaleOf<kRule>(a.coding, a.divisors, stored, a.tensor_scale),
                                               amax);
}

// One scale for all. What the largest value is does not matter: E4M3 alone comes here, and EncodeBytes keeps within it.
template <DType kType>
__global__ void __launch_bounds__(kBlockThreads) CodeTensor(const Arguments a, std::int64_t vectors) {
  const std::int64_t number = static_cast<std::int64_t>(blockIdx.x) * kBlockThreads + threadIdx.x;
  if (number >= vectors) {
    return;
  }
  Vector<kType> values;
  values.Load(a.values, number);
  EncodeVector<Element::kE4M3>(values, MakeDivisor(a.tensor_scale, 0, kType), a.flip, a.codes, number);
}

// A scale a row, a block of threads a row.
template <DType kType, Element kElement, int kVectors>
__global__ void __launch_bounds__(1024) CodeRows(const Arguments a) {
  __shared__ std::uint32_t scratch[32];
  const auto vectors = static_cast<int>(a.columns / kVector);
  const std::int64_t row = blockIdx.x;
  Vector<kType> values[kVectors];
  std::uint32_t largest = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const auto place = static_cast<int>(threadIdx.x + i * blockDim.x);
    values[i].Clear();
    if (place < vectors) {
      values[i].Load(a.values, row * vectors + place);
    }
  }
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    largest = max(largest, values[i].LargestMagnitudeBits());
  }
  const float amax = Vector<kType>::FromMagnitudeBits(BlockMaximum(largest, scratch));
  const Divisor divisor = MakeScale<kType>(a, amax, row, threadIdx.x == 0);
  if (a.codes == nullptr) {
    return;
  }
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const auto place = static_cast<int>(threadIdx.x + i * blockDim.x);
    if (place < vectors) {
      EncodeVector<kElement>(values[i], divisor, a.flip, a.codes, row * vectors + place);
    }
  }
}

// A scale for each square of 128 x 128, a block of threads a square: eight threads a row, 32 rows at a time.
template <DType kType>
__global__ void __launch_bounds__(kBlockThreads) CodeSquares(const Arguments a) {
  constexpr int kAcross = kSquare / kVector;
  constexpr int kDown = kBlockThreads / kAcross;
  constexpr int kVectors = kSquare / kDown;
  __shared__ std::uint32_t scratch[32];
  const std::int64_t vectors = a.columns / kVector;  // of a row
  const std::int64_t place = static_cast<std::int64_t>(blockIdx.x) * kAcross + threadIdx.x % kAcross;
  const std::int64_t first_row = static_cast<std::int64_t>(blockIdx.y) * kSquare + threadIdx.x / kAcross;
  Vector<kType> values[kVectors];
  std::uint32_t largest = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    values[i].Clear();
    if (place < vectors && first_row + i * kDown < a.rows) {
      values[i].Load(a.values, (first_row + i * kDown) * vectors + place);
    }
  }
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    largest = max(largest, values[i].LargestMagnitudeBits());
  }
  const float amax = Vector<kType>::FromMagnitudeBits(BlockMaximum(largest, scratch));
  const Divisor divisor =
      MakeScale<kType>(a, amax, static_cast<std::int64_t>(blockIdx.y) * gridDim.x + blockIdx.x, threadIdx.x == 0);
  if (a.codes == nullptr) {
    return;
  }
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    if (place < vectors && first_row + i * kDown < a.rows) {
      EncodeVector<Element::kE4M3>(values[i], divisor, a.flip, a.codes, (first_row + i * kDown) * vectors + place);
    }
  }
}

// The largest of `threads` neighbours of a warp, a power of two, for all of them.
__device__ __forceinline__ std::uint32_t GroupMaximum(std::uint32_t value, int threads) {
  for (int step = 1; step < threads; step *= 2) {
    value = max(value, __shfl_xor_sync(kWholeWarp, value, step));
  }
  return value;
}

// A scale a group; a group is in neighbouring threads of one warp, 2^shift. Of two levels it is one, of powers two.
template <DType kType, Element kElement, ScaleRule kRule>
__global__ void __launch_bounds__(kBlockThreads) CodeGroups(const Arguments a, std::int64_t vectors, int shift) {
  const std::int64_t number = static_cast<std::int64_t>(blockIdx.x) * kBlockThreads + threadIdx.x;
  Vector<kType> values;
  values.Clear();
  if (number < vectors) {
    values.Load(a.values, number);
  }
  if constexpr (kTwoLevels<kRule>) {
    shift = 0;
  } else if constexpr (kPowers<kRule>) {
    shift = 1;
  }
  const std::uint32_t largest = GroupMaximum(values.LargestMagnitudeBits(), 1 << shift);
  if (number >= vectors) {
    return;
  }
  const bool first = (number & ((1 << shift) - 1)) == 0;
  const auto divisor =
      MakeScaleBy<kRule, kElement, kType>(a, Vector<kType>::FromMagnitudeBits(largest), number >> shift, first);
  if (a.codes != nullptr) {
    EncodeVector<kElement>(values, divisor, a.flip, a.codes, number);
  }
}

// The same, of pairs of rows that are packed into one: a block of threads walks along a pair.
template <DType kType>
__global__ void __launch_bounds__(kBlockThreads) CodeGroupsOfRowPairs(const Arguments a, int shift) {
  const std::int64_t vectors = a.columns / kVector;  // of a row
  const std::int64_t place = static_cast<std::int64_t>(blockIdx.x) * kBlockThreads + threadIdx.x;
  const bool inside = place < vectors;
  const bool first = (place & ((1 << shift) - 1)) == 0;
  for (std::int64_t pair = blockIdx.y; pair < a.rows / 2; pair += gridDim.y) {
    const std::int64_t low_number = 2 * pair * vectors + place;
    const std::int64_t high_number = low_number + vectors;
    Vector<kType> low;
    Vector<kType> high;
    low.Clear();
    high.Clear();
    if (inside) {
      low.Load(a.values, low_number);
      high.Load(a.values, high_number);
    }
    const std::uint32_t low_largest = GroupMaximum(low.LargestMagnitudeBits(), 1 << shift);
    const std::uint32_t high_largest = GroupMaximum(high.LargestMagnitudeBits(), 1 << shift);
    if (!inside) {
      continue;
    }
    const Divisor low_divisor = MakeScaleBy<ScaleRule::kAmax, Element::kInt4, kType>(
        a, Vector<kType>::FromMagnitudeBits(low_largest), low_number >> shift, first);
    const Divisor high_divisor = MakeScaleBy<ScaleRule::kAmax, Element::kInt4, kType>(
        a, Vector<kType>::FromMagnitudeBits(high_largest), high_number >> shift, first);
    if (a.codes != nullptr) {
      std::uint32_t words[4];
      EncodeNibbleRows<Element::kInt4>(low, low_divisor, high, high_divisor, words);
      StoreVector(a.codes, pair * vectors + place, words, a.flip);
    }
  }
}

// ---- which kernel, if any ----

template <DType kType, Element kElement, int kVectors>
bool LaunchRows(const Arguments& a, cudaStream_t stream) {
  const std::int64_t threads = CeilingOf(CeilingOf(a.columns / kVector, kVectors), 32) * 32;
  CodeRows<kType, kElement, kVectors><<<static_cast<unsigned>(a.rows), static_cast<unsigned>(threads), 0, stream>>>(a);
  return true;
}

template <DType kType, Element kElement>
bool LaunchRows(const Arguments& a, cudaStream_t stream) {
  constexpr std::int64_t kThreads = 1024;
  constexpr bool kWide = kType == DType::kF32;  // twice the registers a value
  const std::int64_t vectors = a.columns / kVector;
  if (a.rows > kMostBlocks) {
    return false;
  }
  if (vectors <= 128) {
    return LaunchRows<kType, kElement, 1>(a, stream);
  }
  // Two blocks at least fit a multiprocessor, so that one reads while the other writes.
  if (vectors <= (kWide ? 2 * kThreads : kThreads)) {
    return LaunchRows<kType, kElement, 2>(a, stream);
  }
  if constexpr (!kWide) {
    if (vectors <= 4 * kThreads) {
      return LaunchRows<kType, kElement, 4>(a, stream);
    }
  }
  return false;
}

// log2 of the threads that a group takes, or -1 where it does not lie in one warp's.
int GroupShift(std::int32_t group) {
  for (int shift = 0; shift <= 5; ++shift) {
    if (group == kVector << shift) {
      return shift;
    }
  }
  return -1;
}

// Calls `call` with the rule as a constant, if groups of the element are scaled by it.
template <Element kElement, typename Call>
bool WithGroupRule(ScaleRule rule, Call call) {
  switch (rule) {
    case ScaleRule::kAmax:
      call.template operator()<ScaleRule::kAmax>();
      return true;
    case ScaleRule::kPowerOfTwo:
      if constexpr (kElement == Element::kE4M3 || kElement == Element::kE2M1) {
        call.template operator()<ScaleRule::kPowerOfTwo>();
        return true;
      }
      break;
    case ScaleRule::kPowerOfTwoRounded:
      if constexpr (kElement == Element::kE4M3 || kElement == Element::kE2M1) {
        call.template operator()<ScaleRule::kPowerOfTwoRounded>();
        return true;
      }
      break;
    case ScaleRule::kTwoLevel:
      if constexpr (kElement == Element::kE2M1) {
        call.template operator()<ScaleRule::kTwoLevel>();
        return true;
      }
      break;
    case ScaleRule::kTwoLevelReciprocal:
      if constexpr (kElement == Element::kE2M1) {
        call.template operator()<ScaleRule::kTwoLevelReciprocal>();
        return true;
      }
      break;
    case ScaleRule::kRange:
    case ScaleRule::kRangeRounded:
      break;
  }
  return false;
}

template <DType kType, Element kElement>
bool LaunchGroups(const Arguments& a, std::int64_t vectors, int shift, cudaStream_t stream) {
  const auto grid = static_cast<unsigned>(CeilingOf(vectors, kBlockThreads));
  const ScaleRule rule = a.coding.rule;
  const bool two_levels = IsTwoLevel(rule);
  if (rule != ScaleRule::kAmax && shift != (two_levels ? 0 : 1)) {
    return false;
  }
  return WithGroupRule<kElement>(rule, [&]<ScaleRule kRule>() {
    CodeGroups<kType, kElement, kRule><<<grid, kBlockThreads, 0, stream>>>(a, vectors, shift);
  });
}

template <DType kType>
bool LaunchGroups(const Arguments& a, cudaStream_t stream) {
  const int shift = GroupShift(a.coding.group);
  const std::int64_t row_vectors = a.columns / kVector;
  const std::int64_t vectors = a.rows * row_vectors;
  if (shift < 0 || CeilingOf(vectors, kBlockThreads) > kMostBlocks) {
    return false;
  }
  switch (a.coding.element) {
    case Element::kE4M3:
      return LaunchGroups<kType, Element::kE4M3>(a, vectors, shift, stream);
    case Element::kInt8:
      return LaunchGroups<kType, Element::kInt8>(a, vectors, shift, stream);
    case Element::kE2M1:
      return a.coding.packing == Packing::kNibblePairs &&
             LaunchGroups<kType, Element::kE2M1>(a, vectors, shift, stream);
    case Element::kInt4:
      break;
  }
  if (a.coding.packing != Packing::kNibbleRows) {
    return LaunchGroups<kType, Element::kInt4>(a, vectors, shift, stream);
  }
  if (a.coding.rule != ScaleRule::kAmax) {
    return false;
  }
  const dim3 pairs(static_cast<unsigned>(CeilingOf(row_vectors, kBlockThreads)),
                   static_cast<unsigned>(std::min(a.rows / 2, kMostBlocksDown)));
  CodeGroupsOfRowPairs<kType><<<pairs, kBlockThreads, 0, stream>>>(a, shift);
  return true;
}

template <DType kType>
bool LaunchTensor(const Arguments& a, cudaStream_t stream) {
  const std::int64_t vectors = a.rows * a.columns / kVector;
  const std::int64_t blocks = CeilingOf(vectors, kBlockThreads);
  if (a.coding.element != Element::kE4M3 || blocks > kMostBlocks) {
    return false;
  }
  if (a.codes != nullptr) {
    CodeTensor<kType><<<static_cast<unsigned>(blocks), kBlockThreads, 0, stream>>>(a, vectors);
  }
  return true;
}

template <DType kType>
bool LaunchSquares(const Arguments& a, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(CeilingOf(a.columns, kSquare)),
                  static_cast<unsigned>(CeilingOf(a.rows, kSquare)));
  if (a.coding.element != Element::kE4M3 || a.coding.group != kSquare || CeilingOf(a.rows, kSquare) > kMostBlocksDown) {
    return false;
  }
  CodeSquares<kType><<<grid, kBlockThreads, 0, stream>>>(a);
  return true;
}

// Whether codes of this packing are what EncodeVector and EncodeNibbleRows make; `flip` what they are combined with.
bool PackingOf(const Coding& coding, std::uint32_t& flip) {
  flip = 0;
  if (coding.packing == Packing::kBytes) {
    return ElementBits(coding.element) == 8;
  }
  if (coding.packing == Packing::kWords) {
    flip = coding.element == Element::kInt8 ? 0x80808080U : 0x88888888U;
    return true;
  }
  return coding.packing == Packing::kNibblePairs || coding.packing == Packing::kNibbleRows;
}

template <DType kType>
bool LaunchFusedOf(const Arguments& a, cudaStream_t stream) {
  const bool nibble_rows = a.coding.packing == Packing::kNibbleRows;
  switch (a.coding.sharing) {
    case Sharing::kTensor:
      return LaunchTensor<kType>(a, stream);
    case Sharing::kSquare:
      return LaunchSquares<kType>(a, stream);
    case Sharing::kGroup:
      return LaunchGroups<kType>(a, stream);
    case Sharing::kRow:
      break;
  }
  switch (a.coding.element) {
    case Element::kE4M3:
      return LaunchRows<kType, Element::kE4M3>(a, stream);
    case Element::kInt8:
      return LaunchRows<kType, Element::kInt8>(a, stream);
    case Element::kInt4:
      return !nibble_rows && LaunchRows<kType, Element::kInt4>(a, stream);
    case Element::kE2M1:
      break;
  }
  return false;
}

}  // namespace

bool LaunchFused(const DeviceJob& job, cudaStream_t stream) {
  Arguments arguments{job.values.data,
                      job.values.columns,
                      job.values.rows,
                      job.coding,
                      job.tensor_scale,
                      RuleDivisorsOf(job.coding, job.tensor_scale),
                      0,
                      job.codes,
                      job.scales};
  if (job.values.columns % kVector != 0 || job.amaxes != nullptr || job.coding.search != ScaleSearch::kAmax ||
      !PackingOf(job.coding, arguments.flip)) {
    return false;
  }
  bool launched = false;
  WithValueType(job.values.dtype, [&]<DType kType>() { launched = LaunchFusedOf<kType>(arguments, stream); });
  return launched;
}

}  // namespace slipway::engine
