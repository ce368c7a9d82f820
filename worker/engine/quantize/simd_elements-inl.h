// The element nearest to a number, ties to even, and its code, by adding a constant after which FP32 has no bits left
// below the element's last one.
#if defined(SLIPWAY_QUANTIZE_SIMD_ELEMENTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLIPWAY_QUANTIZE_SIMD_ELEMENTS_INL_H_
#undef SLIPWAY_QUANTIZE_SIMD_ELEMENTS_INL_H_
#else
#define SLIPWAY_QUANTIZE_SIMD_ELEMENTS_INL_H_
#endif

#include "worker/engine/quantize/simd_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace slipway::engine::HWY_NAMESPACE {

struct Rounded {
  FloatVector element;
  WordVector code;  // in the lowest bits; above them may be anything
};

// Sign, exponent and mantissa; elements below 2^kLeast are subnormal.
template <int kMantissa, int kLeast>
Rounded RoundMagnitude(FloatVector magnitude) {
  const Floats f;
  const Words w;
  constexpr std::uint32_t kLeastBits = static_cast<std::uint32_t>(127 + kLeast) << 23;
  const auto least = hn::BitCast(f, hn::Set(w, kLeastBits));
  const auto exponent = hn::And(hn::BitCast(w, hn::Max(magnitude, least)), hn::Set(w, 0x7f800000U));
  // 2^(23 - kMantissa) times the power of two below: its last bit is the element's.
  const auto shift = hn::Add(exponent, hn::Set(w, static_cast<std::uint32_t>(23 - kMantissa) << 23));
  const auto sum = hn::Add(magnitude, hn::BitCast(f, shift));
  const auto mantissa = hn::Sub(hn::BitCast(w, sum), shift);
  const auto steps = hn::ShiftRight<23 - kMantissa>(hn::Sub(exponent, hn::Set(w, kLeastBits)));
  return {hn::Sub(sum, hn::BitCast(f, shift)), hn::Add(mantissa, steps)};
}

// Each element has kLargest and Round, which takes value / scale; of kHasZeroPoint, it takes the zero point, too, and
// the element is how many scales the code is worth.
struct E4M3 {
  static constexpr bool kHasZeroPoint = false;
  static constexpr float kLargest = 448;
  static Rounded Round(FloatVector ratio) {
    const Words w;
    const Rounded rounded = RoundMagnitude<3, -6>(hn::Min(hn::Abs(ratio), hn::Set(Floats(), kLargest)));
    const auto sign = hn::And(hn::BitCast(w, ratio), hn::Set(w, 0x80000000U));
    return {hn::BitCast(Floats(), hn::Or(hn::BitCast(w, rounded.element), sign)),
            hn::Or(rounded.code, hn::ShiftRight<24>(sign))};
  }
};

struct E2M1 {
  static constexpr bool kHasZeroPoint = false;
  static constexpr float kLargest = 6;
  static Rounded Round(FloatVector ratio) {
    const Floats f;
    const Words w;
    const Rounded rounded = RoundMagnitude<1, 0>(hn::Min(hn::Abs(ratio), hn::Set(f, kLargest)));
    // -0 has no sign.
    const auto sign = hn::BitCast(w, hn::IfThenElseZero(hn::Lt(ratio, hn::Zero(f)), hn::Set(f, -0.0F)));
    return {hn::BitCast(f, hn::Or(hn::BitCast(w, rounded.element), sign)),
            hn::Or(rounded.code, hn::ShiftRight<28>(sign))};
  }
};

template <int kLargestElement>
struct Integer {
  static constexpr bool kHasZeroPoint = false;
  static constexpr float kLargest = kLargestElement;
  static Rounded Round(FloatVector ratio) {
    const Floats f;
    const auto inside = hn::Max(hn::Min(ratio, hn::Set(f, kLargest)), hn::Set(f, -kLargest - 1));
    const auto shift = hn::Set(f, 12582912.0F);  // 1.5 * 2^23: the last bit is 1, negative numbers borrow from the half
    const auto sum = hn::Add(inside, shift);
    return {hn::Sub(sum, shift), hn::BitCast(Words(), sum)};  // the code's low bits are two's complement
  }
};
using Int8 = Integer<127>;
using Int4 = Integer<7>;

struct ShiftedInt4 {
  static constexpr bool kHasZeroPoint = true;
  static FloatVector Least(FloatVector zero_point) { return hn::Sub(hn::Set(Floats(), -8), zero_point); }
  static FloatVector Largest(FloatVector zero_point) { return hn::Sub(hn::Set(Floats(), 7), zero_point); }
  static Rounded Round(FloatVector ratio, FloatVector zero_point) {
    const auto inside = hn::Max(hn::Min(ratio, Largest(zero_point)), Least(zero_point));
    const auto shift = hn::Set(Floats(), 12582912.0F);  // as above; sums with zero points are exact
    const auto sum = hn::Add(inside, shift);
    return {hn::Sub(sum, shift), hn::BitCast(Words(), hn::Add(sum, zero_point))};
  }
};

// With the zero points at `zero_points`, which are not looked at where the element has none.
template <class ElementKind>
HWY_INLINE Rounded RoundAbout(FloatVector ratio, const float* HWY_RESTRICT zero_points) {
  if constexpr (ElementKind::kHasZeroPoint) {
    return ElementKind::Round(ratio, hn::Load(Floats(), zero_points));
  } else {
    return ElementKind::Round(ratio);
  }
}

}  // namespace slipway::engine::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SLIPWAY_QUANTIZE_SIMD_ELEMENTS_INL_H_
