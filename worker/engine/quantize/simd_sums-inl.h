// Sums of squares in the order that coding.h fixes.
#if defined(SLIPWAY_QUANTIZE_SIMD_SUMS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLIPWAY_QUANTIZE_SIMD_SUMS_INL_H_
#undef SLIPWAY_QUANTIZE_SIMD_SUMS_INL_H_
#else
#define SLIPWAY_QUANTIZE_SIMD_SUMS_INL_H_
#endif

#include "worker/engine/quantize/simd_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace slipway::engine::HWY_NAMESPACE {

inline constexpr std::size_t kChunk = 128;

using Four = hn::FixedTag<float, 4>;

inline float SumOfFour(hn::Vec<Four> four) {
  const auto two = hn::Add(four, hn::Shuffle1032(four));
  return hn::GetLane(hn::Add(two, hn::Shuffle2301(two)));
}

#if HWY_TARGET == HWY_SSSE3 || HWY_TARGET == HWY_SSE4
#define SLIPWAY_QUANTIZE_FOUR_LANES 1
#else
#define SLIPWAY_QUANTIZE_FOUR_LANES 0
using Eight = hn::FixedTag<float, 8>;

inline float SumOfEight(hn::Vec<Eight> eight) {
  return SumOfFour(hn::Add(hn::LowerHalf(Four(), eight), hn::UpperHalf(Four(), eight)));
}
#endif

// Of a chunk of `count` squares; after them come zeros up to a multiple of 8, which change no sum.
inline float ChunkSum(const float* HWY_RESTRICT squares, std::size_t count) {
#if SLIPWAY_QUANTIZE_FOUR_LANES
  auto low = hn::Zero(Four());
  auto high = low;
  for (std::size_t i = 0; i < count; i += 8) {
    low = hn::Add(low, hn::Load(Four(), squares + i));
    high = hn::Add(high, hn::Load(Four(), squares + i + 4));
  }
  return SumOfFour(hn::Add(low, high));
#else
  auto lanes = hn::Zero(Eight());
  for (std::size_t i = 0; i < count; i += 8) {
    lanes = hn::Add(lanes, hn::Load(Eight(), squares + i));
  }
  return SumOfEight(lanes);
#endif
}

// Two sums of a chunk at once, out of vectors in the order of the row.
class TwoChunkSums {
 public:
  // Not by default initializers: the compiler gives those no instruction set.
  HWY_INLINE TwoChunkSums() {
#if SLIPWAY_QUANTIZE_FOUR_LANES
    a_ = b_ = a_high_ = b_high_ = hn::Zero(Floats());
#elif HWY_TARGET == HWY_AVX2
    a_ = b_ = hn::Zero(Floats());
#else
    both_ = hn::Zero(Floats());
#endif
  }

  HWY_INLINE void Add(FloatVector a, FloatVector b) {
#if SLIPWAY_QUANTIZE_FOUR_LANES
    // Odd vectors are the upper lanes'.
    const auto a_low = a_;
    const auto b_low = b_;
    a_ = a_high_;
    b_ = b_high_;
    a_high_ = hn::Add(a_low, a);
    b_high_ = hn::Add(b_low, b);
#elif HWY_TARGET == HWY_AVX2
    a_ = hn::Add(a_, a);
    b_ = hn::Add(b_, b);
#else
    both_ = hn::Add(both_, hn::ConcatLowerLower(Floats(), b, a));
    both_ = hn::Add(both_, hn::ConcatUpperUpper(Floats(), b, a));
#endif
  }

  // After an even number of vectors.
  HWY_INLINE void AddTo(double& a, double& b) const {
#if SLIPWAY_QUANTIZE_FOUR_LANES
    a += static_cast<double>(SumOfFour(hn::Add(a_, a_high_)));
    b += static_cast<double>(SumOfFour(hn::Add(b_, b_high_)));
#elif HWY_TARGET == HWY_AVX2
    a += static_cast<double>(SumOfEight(a_));
    b += static_cast<double>(SumOfEight(b_));
#else
    a += static_cast<double>(SumOfEight(hn::LowerHalf(Eight(), both_)));
    b += static_cast<double>(SumOfEight(hn::UpperHalf(Eight(), both_)));
#endif
  }

 private:
#if SLIPWAY_QUANTIZE_FOUR_LANES
  FloatVector a_;
  FloatVector b_;
  FloatVector a_high_;
  FloatVector b_high_;
#elif HWY_TARGET == HWY_AVX2
  FloatVector a_;
  FloatVector b_;
#else
  FloatVector both_;  // of a in the lower half
#endif
};

// Adds the chunks of `count` neighbours to `sum`, left to right.
inline double AddChunks(const float* HWY_RESTRICT squares, std::size_t count, double sum) {
  for (std::size_t i = 0; i < count; i += kChunk) {
    sum += static_cast<double>(ChunkSum(squares + i, count - i < kChunk ? count - i : kChunk));
  }
  return sum;
}

#undef SLIPWAY_QUANTIZE_FOUR_LANES

}  // namespace slipway::engine::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SLIPWAY_QUANTIZE_SIMD_SUMS_INL_H_
