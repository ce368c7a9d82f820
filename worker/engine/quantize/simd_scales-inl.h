// From the largest magnitudes of blocks to their scales, many blocks at a time.
#if defined(SLIPWAY_QUANTIZE_SIMD_SCALES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLIPWAY_QUANTIZE_SIMD_SCALES_INL_H_
#undef SLIPWAY_QUANTIZE_SIMD_SCALES_INL_H_
#else
#define SLIPWAY_QUANTIZE_SIMD_SCALES_INL_H_
#endif

#include <algorithm>
#include <bit>

#include "worker/engine/quantize/coding.h"
#include "worker/engine/quantize/scale_search.h"
#include "worker/engine/quantize/simd_elements-inl.h"

HWY_BEFORE_NAMESPACE();
namespace slipway::engine::HWY_NAMESPACE {

// Lanes of a block's largest magnitude, before they are collapsed to one.
inline constexpr std::size_t kBlockLanes = 16;

// Raises the lanes of blocks of `width` neighbours, a multiple of 16; the first block begins with the tile.
inline void RaiseLanes(const float* HWY_RESTRICT values, std::size_t width, std::size_t count,
                       float* HWY_RESTRICT lanes_of_blocks) {
  const Floats f;
  const std::size_t lanes = hn::Lanes(f);
  const std::size_t end = RoundedUp(count, kBlockLanes);
  for (std::size_t block = 0; block < count; block += width, lanes_of_blocks += kBlockLanes) {
    for (std::size_t lane = 0; lane < kBlockLanes; lane += lanes) {
      auto largest = hn::Load(f, lanes_of_blocks + lane);
      for (std::size_t i = block; i < std::min(block + width, end); i += kBlockLanes) {
        largest = hn::Max(largest, hn::Abs(hn::Load(f, values + i + lane)));
      }
      hn::Store(largest, f, lanes_of_blocks + lane);
    }
  }
}

// The same of how far the blocks' values reach above 0, and below it.
inline void WidenLanes(const float* HWY_RESTRICT values, std::size_t width, std::size_t count,
                       float* HWY_RESTRICT above, float* HWY_RESTRICT below) {
  const Floats f;
  const std::size_t lanes = hn::Lanes(f);
  const std::size_t end = RoundedUp(count, kBlockLanes);
  for (std::size_t block = 0; block < count; block += width, above += kBlockLanes, below += kBlockLanes) {
    for (std::size_t lane = 0; lane < kBlockLanes; lane += lanes) {
      auto up = hn::Load(f, above + lane);
      auto down = hn::Load(f, below + lane);
      for (std::size_t i = block; i < std::min(block + width, end); i += kBlockLanes) {
        const auto value = hn::Load(f, values + i + lane);
        up = hn::Max(up, value);
        down = hn::Max(down, hn::Neg(value));
      }
      hn::Store(up, f, above + lane);
      hn::Store(down, f, below + lane);
    }
  }
}

// In place: kBlockLanes lanes a block become its largest magnitude. Room: 2 * kBlockLanes more.
inline void CollapseLanes(float* lanes_of_blocks, std::size_t blocks) {
  const Floats f;
  const std::size_t lanes = hn::Lanes(f);
  for (std::size_t left = kBlockLanes / 2; left > 0; left /= 2) {
    for (std::size_t i = 0; i < blocks * left; i += lanes) {
      const auto a = hn::Load(f, lanes_of_blocks + 2 * i);
      const auto b = hn::Load(f, lanes_of_blocks + 2 * i + lanes);
      hn::Store(hn::Max(hn::ConcatEven(f, b, a), hn::ConcatOdd(f, b, a)), f, lanes_of_blocks + i);
    }
  }
}

struct Scale {
  WordVector stored;  // its bits in scale_dtype
  FloatVector used;   // what values are divided by
};

inline WordVector Within(WordVector bits, std::int32_t least, std::int32_t largest) {
  const Integers i;
  const auto within = hn::Min(hn::Max(hn::BitCast(i, bits), hn::Set(i, least)), hn::Set(i, largest));
  return hn::BitCast(Words(), within);
}

// To BF16, ties to even, of numbers that stay finite.
inline FloatVector RoundedToBFloat16(FloatVector value) {
  const Words w;
  const auto bits = hn::BitCast(w, value);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(w, 1));
  const auto sum = hn::Add(bits, hn::Add(odd, hn::Set(w, 0x7fffU)));
  return hn::BitCast(Floats(), hn::And(sum, hn::Set(w, 0xffff0000U)));
}

// A scale as F32, BF16 or F16, within what scales.h allows.
inline Scale RoundedScaleOf(DType dtype, FloatVector scale) {
  const Floats f;
  const Words w;
  const auto bits = hn::BitCast(w, scale);
  if (dtype == DType::kBF16) {
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(w, 1));
    const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(w, 0x7fffU))));
    const auto half = Within(rounded, 0x0080, 0x7f7f);
    return {half, hn::BitCast(f, hn::ShiftLeft<16>(half))};
  }
  if (dtype == DType::kF16) {
    const auto within = hn::Min(hn::Max(scale, hn::Set(f, 0x1p-24F)), hn::Set(f, 65504));
    const Rounded rounded = RoundMagnitude<10, -14>(within);
    return {rounded.code, rounded.element};
  }
  const auto within = Within(bits, 0x00800000, 0x7f7fffff);
  return {within, hn::BitCast(f, within)};
}

inline Scale AmaxScaleOf(const Coding& coding, FloatVector amax) {
  const Floats f;
  const auto exact = hn::Div(amax, hn::Set(f, coding.bound));
  const auto empty = hn::Eq(amax, hn::Zero(f));
  return RoundedScaleOf(coding.scale_dtype, hn::IfThenElse(empty, hn::Set(f, 1), exact));
}

// Of blocks that reach so far above 0 and below it.
inline Scale RangeScaleOf(const Coding& coding, FloatVector above, FloatVector below) {
  const Floats f;
  const DType steps = coding.rule == ScaleRule::kRangeRounded ? coding.scale_dtype : DType::kF32;
  const auto width = hn::Add(above, below);
  const auto exact = hn::Div(RoundedScaleOf(steps, width).used, hn::Set(f, coding.bound));
  const auto empty = hn::Eq(width, hn::Zero(f));
  return RoundedScaleOf(coding.scale_dtype, hn::IfThenElse(empty, hn::Set(f, 1), exact));
}

inline FloatVector RoundedStepOf(DType dtype, FloatVector value) {
  if (dtype == DType::kBF16) {
    return RoundedToBFloat16(value);
  }
  return dtype == DType::kF16 ? hn::CopySign(RoundMagnitude<10, -14>(hn::Abs(value)).element, value) : value;
}

inline FloatVector ZeroPointOf(const Coding& coding, FloatVector below, FloatVector scale) {
  const Floats f;
  const auto shift = hn::Set(f, 12582912.0F);  // after which there is no bit below 1
  // What is beyond 15 by far makes the largest zero point, whatever it is; then it need not be finite.
  const auto steps = hn::Min(hn::Div(below, scale), hn::Set(f, 64));
  if (coding.rule == ScaleRule::kRange) {
    const auto inside = hn::Min(steps, hn::Set(f, 15));
    return hn::Sub(hn::Sub(hn::Add(inside, shift), shift), hn::Set(f, 8));
  }
  const DType dtype = coding.scale_dtype;
  const auto place = RoundedStepOf(dtype, hn::Sub(RoundedStepOf(dtype, steps), hn::Set(f, 8)));
  const auto inside = hn::Max(hn::Min(place, hn::Set(f, 7)), hn::Set(f, -8));
  return hn::Sub(hn::Add(inside, shift), shift);
}

// E4M3 of codes without a sign.
inline FloatVector E4M3Of(WordVector code) {
  const Floats f;
  const Words w;
  const Integers i;
  const auto normal = hn::BitCast(f, hn::Add(hn::ShiftLeft<20>(code), hn::Set(w, 120U << 23)));
  const auto subnormal = hn::Mul(hn::ConvertTo(f, hn::BitCast(i, code)), hn::Set(f, 0x1p-9F));
  return hn::IfThenElse(hn::RebindMask(f, hn::Lt(hn::BitCast(i, code), hn::Set(i, 8))), subnormal, normal);
}

inline Scale TwoLevelScaleOf(const Coding& coding, std::int32_t step, float tensor_scale, FloatVector amax) {
  const Floats f;
  const Words w;
  const bool reciprocal = coding.rule == ScaleRule::kTwoLevelReciprocal;
  const auto second = hn::Set(f, tensor_scale);
  // Rounded as scales.h rounds it: of the two products one is the divisor.
  const auto exact = reciprocal ? hn::Mul(hn::Div(amax, hn::Set(f, coding.bound)), second)
                                : hn::Div(amax, hn::Set(f, coding.bound * tensor_scale));
  const auto nearest = Within(RoundMagnitude<3, -6>(hn::Min(exact, hn::Set(f, 448))).code, 1, 126);
  const auto empty = hn::RebindMask(w, hn::Eq(amax, hn::Zero(f)));
  const auto code = hn::IfThenElse(empty, hn::Set(w, reciprocal ? 0x20U : 0x38U), nearest);
  const auto stepped = Within(hn::Add(code, hn::Set(w, static_cast<std::uint32_t>(step))), 1, 126);
  const auto scale = E4M3Of(stepped);
  return {stepped, reciprocal ? hn::Div(scale, second) : hn::Mul(scale, second)};
}

inline Scale PowerOfTwoScaleOf(const Coding& coding, std::int32_t step, FloatVector amax) {
  const Words w;
  const auto bits = hn::BitCast(w, amax);
  const auto bound = std::bit_cast<std::uint32_t>(coding.bound);
  WordVector exponent;
  if (coding.rule == ScaleRule::kPowerOfTwo) {
    // A mantissa above the bound's borrows.
    const auto difference = hn::Sub(hn::Set(w, bound & 0x7fffffU), hn::And(bits, hn::Set(w, 0x7fffffU)));
    const auto up = hn::ShiftRight<31>(difference);
    const auto moved = hn::Sub(hn::Add(hn::ShiftRight<23>(bits), up), hn::Set(w, (bound >> 23) - 127));
    const auto normal = hn::Gt(hn::BitCast(Integers(), bits), hn::Set(Integers(), 0x007fffff));
    exponent = hn::IfThenElseZero(hn::RebindMask(w, normal), moved);
  } else {
    // Mantissas from 1.75 on carry into the exponent.
    const auto carried = hn::ShiftRight<23>(hn::Add(bits, hn::Set(w, 0x200000U)));
    exponent = hn::Sub(carried, hn::Set(w, (bound >> 23) - 127));
  }
  const auto code = hn::Add(Within(exponent, 0, 254), hn::Set(w, static_cast<std::uint32_t>(step)));
  const auto stored = Within(code, 0, 254);
  const auto used = Within(hn::ShiftLeft<23>(stored), 0x00400000, 0x7f800000);  // 2^-127 is subnormal
  return {stored, hn::BitCast(Floats(), used)};
}

// The scales that `candidate` (0: the rule's) makes of RoundedUp(blocks, kBlockLanes) largest magnitudes.
inline void MakeScales(const Coding& coding, float tensor_scale, std::size_t candidate,
                       const float* HWY_RESTRICT amaxes, std::size_t blocks, std::uint32_t* HWY_RESTRICT stored,
                       float* HWY_RESTRICT used) {
  const Floats f;
  const bool by_factor = coding.rule == ScaleRule::kAmax;
  const bool two_level = IsTwoLevel(coding.rule);
  float factor = 1;
  std::int32_t step = 0;
  if (candidate > 0 && by_factor) {
    factor = AmaxFactors(coding.element)[candidate];
  } else if (candidate > 0) {
    step = CodeSteps(coding.element, coding.rule)[candidate];
  }
  for (std::size_t i = 0; i < blocks; i += hn::Lanes(f)) {
    const auto amax = hn::Load(f, amaxes + i);
    const Scale scale = by_factor   ? AmaxScaleOf(coding, hn::Mul(amax, hn::Set(f, factor)))
                        : two_level ? TwoLevelScaleOf(coding, step, tensor_scale, amax)
                                    : PowerOfTwoScaleOf(coding, step, amax);
    hn::Store(scale.stored, Words(), stored + i);
    hn::Store(scale.used, f, used + i);
  }
}

// The same by a rule of ranges, with zero points.
inline void MakeRangeScales(const Coding& coding, std::size_t candidate, const float* HWY_RESTRICT above,
                            const float* HWY_RESTRICT below, std::size_t blocks, std::uint32_t* HWY_RESTRICT stored,
                            float* HWY_RESTRICT used, float* HWY_RESTRICT zero_points) {
  const Floats f;
  const RangeFactors factors = FactorsOfRanges()[candidate];
  for (std::size_t i = 0; i < blocks; i += hn::Lanes(f)) {
    const auto up = hn::Mul(hn::Load(f, above + i), hn::Set(f, factors.high));
    const auto down = hn::Mul(hn::Load(f, below + i), hn::Set(f, factors.low));
    const Scale scale = RangeScaleOf(coding, up, down);
    hn::Store(scale.stored, Words(), stored + i);
    hn::Store(scale.used, f, used + i);
    hn::Store(ZeroPointOf(coding, down, scale.used), f, zero_points + i);
  }
}

}  // namespace slipway::engine::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SLIPWAY_QUANTIZE_SIMD_SCALES_INL_H_
