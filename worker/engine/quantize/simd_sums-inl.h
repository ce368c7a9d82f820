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

// Of a chunk of `count` squares; after them come zeros up to a multiple of 8, which change no sum.
inline float ChunkSum(const float* HWY_RESTRICT squares, std::size_t count) {
  const hn::FixedTag<float, 4> quarter;
#if HWY_TARGET <= HWY_AVX2 && HWY_TARGET >= HWY_AVX3_DL
  const hn::FixedTag<float, 8> eight;
  auto lanes = hn::Zero(eight);
  for (std::size_t i = 0; i < count; i += 8) {
    lanes = hn::Add(lanes, hn::Load(eight, squares + i));
  }
  const auto four = hn::Add(hn::LowerHalf(quarter, lanes), hn::UpperHalf(quarter, lanes));
#else
  auto low = hn::Zero(quarter);
  auto high = hn::Zero(quarter);
  for (std::size_t i = 0; i < count; i += 8) {
    low = hn::Add(low, hn::Load(quarter, squares + i));
    high = hn::Add(high, hn::Load(quarter, squares + i + 4));
  }
  const auto four = hn::Add(low, high);
#endif
  const auto two = hn::Add(four, hn::Shuffle1032(four));
  return hn::GetLane(hn::Add(two, hn::Shuffle2301(two)));
}

// Adds the chunks of `count` neighbours to `sum`, left to right.
inline double AddChunks(const float* HWY_RESTRICT squares, std::size_t count, double sum) {
  for (std::size_t i = 0; i < count; i += kChunk) {
    sum += static_cast<double>(ChunkSum(squares + i, count - i < kChunk ? count - i : kChunk));
  }
  return sum;
}

}  // namespace slipway::engine::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SLIPWAY_QUANTIZE_SIMD_SUMS_INL_H_
