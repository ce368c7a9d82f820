// A tile under its scales: codes, squares for sums, and what else statistics count.
#if defined(SLIPWAY_QUANTIZE_SIMD_ENCODE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLIPWAY_QUANTIZE_SIMD_ENCODE_INL_H_
#undef SLIPWAY_QUANTIZE_SIMD_ENCODE_INL_H_
#else
#define SLIPWAY_QUANTIZE_SIMD_ENCODE_INL_H_
#endif

#include <algorithm>

#include "worker/engine/quantize/quantizer.h"
#include "worker/engine/quantize/simd_elements-inl.h"
#include "worker/engine/quantize/simd_sums-inl.h"

HWY_BEFORE_NAMESPACE();
namespace slipway::engine::HWY_NAMESPACE {

// A scale for each of `count` neighbours, in arrays of kTile: `scales` holds one for `width` of them, a multiple of 16.
inline void SpreadScales(const float* HWY_RESTRICT scales, std::size_t width, std::size_t count,
                         float* HWY_RESTRICT out) {
  const Floats f;
  const std::size_t lanes = hn::Lanes(f);
  const std::size_t end = RoundedUp(count, kStep);
  for (std::size_t i = 0; i < count; ++scales) {
    const auto scale = hn::Set(f, *scales);
    for (const std::size_t next = std::min(i + width, end); i < next; i += lanes) {
      hn::Store(scale, f, out + i);
    }
  }
  for (std::size_t i = RoundedUp(count, 16); i < end; i += lanes) {
    hn::Store(hn::Set(f, 1), f, out + i);
  }
}

// What the values of a tile are divided by, each by its own, and their zero points where the element has them.
struct TileGrid {
  alignas(64) float scales[kTile];
  alignas(64) float zero_points[kTile];
};

// Codes of RoundedUp(count, kStep) values, one a byte, at any address.
template <class ElementKind>
void EncodeTile(const float* HWY_RESTRICT values, const TileGrid& grid, std::size_t count,
                std::uint8_t* HWY_RESTRICT codes) {
  const Floats f;
  const hn::Rebind<std::uint8_t, Floats> bytes;
  for (std::size_t i = 0; i < RoundedUp(count, kStep); i += hn::Lanes(f)) {
    const auto ratio = hn::Div(hn::Load(f, values + i), hn::Load(f, grid.scales + i));
    hn::StoreU(hn::TruncateTo(bytes, RoundAbout<ElementKind>(ratio, grid.zero_points + i).code), bytes, codes + i);
  }
}

// Squared errors of RoundedUp(count, kStep) values, one each.
template <class ElementKind>
void SquareErrors(const float* HWY_RESTRICT values, const TileGrid& grid, std::size_t count,
                  float* HWY_RESTRICT squares) {
  const Floats f;
  for (std::size_t i = 0; i < RoundedUp(count, kStep); i += hn::Lanes(f)) {
    const auto value = hn::Load(f, values + i);
    const auto scale = hn::Load(f, grid.scales + i);
    const auto element = RoundAbout<ElementKind>(hn::Div(value, scale), grid.zero_points + i).element;
    const auto error = hn::Sub(value, hn::Mul(element, scale));
    hn::Store(hn::Mul(error, error), f, squares + i);
  }
}

// Which quotients are beyond the elements.
template <class ElementKind>
HWY_INLINE hn::Mask<Floats> Beyond(FloatVector ratio, const float* HWY_RESTRICT zero_points) {
  if constexpr (ElementKind::kHasZeroPoint) {
    const auto zero_point = hn::Load(Floats(), zero_points);
    return hn::Or(hn::Lt(ratio, ElementKind::Least(zero_point)), hn::Gt(ratio, ElementKind::Largest(zero_point)));
  } else {
    return hn::Gt(hn::Abs(ratio), hn::Set(Floats(), ElementKind::kLargest));
  }
}

// EncodeTile that adds what it did to `row`. What lies behind `count` is zero, and counts nothing.
template <class ElementKind>
void EncodeAndJudgeTile(const float* HWY_RESTRICT values, const TileGrid& grid, std::size_t count,
                        std::uint8_t* HWY_RESTRICT codes, RowStatistics& row) {
  const Floats f;
  const hn::Rebind<std::uint8_t, Floats> bytes;
  const auto zero = hn::Zero(f);
  const std::size_t end = RoundedUp(count, kStep);
  auto amax = zero;
  auto largest_error = zero;
  std::size_t saturated = 0;
  std::size_t zeros = 0;
  for (std::size_t chunk = 0; chunk < end; chunk += kChunk) {
    TwoChunkSums sums;
    for (std::size_t i = chunk; i < std::min(chunk + kChunk, end); i += hn::Lanes(f)) {
      const auto value = hn::Load(f, values + i);
      const auto scale = hn::Load(f, grid.scales + i);
      const auto ratio = hn::Div(value, scale);
      const Rounded rounded = RoundAbout<ElementKind>(ratio, grid.zero_points + i);
      const auto error = hn::Sub(value, hn::Mul(rounded.element, scale));
      hn::StoreU(hn::TruncateTo(bytes, rounded.code), bytes, codes + i);
      sums.Add(hn::Mul(error, error), hn::Mul(value, value));
      amax = hn::Max(amax, hn::Abs(value));
      largest_error = hn::Max(largest_error, hn::Abs(error));
      saturated += hn::CountTrue(f, Beyond<ElementKind>(ratio, grid.zero_points + i));
      zeros += hn::CountTrue(f, hn::And(hn::Eq(rounded.element, zero), hn::Ne(value, zero)));
    }
    sums.AddTo(row.squared_error, row.squared_value);
  }
  row.amax = std::max(row.amax, hn::GetLane(hn::MaxOfLanes(f, amax)));
  row.largest_error = std::max(row.largest_error, hn::GetLane(hn::MaxOfLanes(f, largest_error)));
  row.saturated += static_cast<std::int64_t>(saturated);
  row.zeros += static_cast<std::int64_t>(zeros);
}

}  // namespace slipway::engine::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SLIPWAY_QUANTIZE_SIMD_ENCODE_INL_H_
