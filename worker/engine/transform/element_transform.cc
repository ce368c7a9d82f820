#include "worker/engine/transform/element_transform.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

namespace slipway::engine {
namespace {

static_assert(std::endian::native == std::endian::little, "checkpoints and safetensors are little-endian");

constexpr std::int32_t kInfinity = 0x7F800000;
constexpr std::int32_t kOne = 0x3F800000;

// The bits without the sign; of numbers, they are in the order of the magnitudes.
std::int32_t Magnitude(float value) { return std::bit_cast<std::int32_t>(value) & 0x7FFFFFFF; }

// All bits or none.
std::int32_t MaskOf(bool condition) { return -static_cast<std::int32_t>(condition); }

std::int32_t Select(bool condition, std::int32_t yes, std::int32_t no) { return no ^ ((yes ^ no) & MaskOf(condition)); }

// Conversions by selection rather than by branches, so that the compiler makes vector code of the loops below.

[[gnu::always_inline]] inline float FromBFloat16(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

[[gnu::always_inline]] inline std::uint16_t ToBFloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  const std::uint32_t quiet_nan = (bits >> 16) | 0x0040;
  return static_cast<std::uint16_t>(Magnitude(value) > kInfinity ? quiet_nan : rounded);
}

[[gnu::always_inline]] inline float FromHalf(std::uint16_t bits) {
  const std::int32_t magnitude = bits & 0x7FFF;
  const std::int32_t fraction = bits & 0x03FF;
  // Subnormal: fraction times 2^-24, exact in binary32.
  const auto subnormal = std::bit_cast<std::int32_t>(static_cast<float>(fraction) * 0x1p-24F);
  const std::int32_t normal = (magnitude << 13) + ((127 - 15) << 23);
  const std::int32_t special = kInfinity | (magnitude << 13) | (0x00400000 & MaskOf(fraction != 0));
  const std::int32_t finite = Select(magnitude < 0x0400, subnormal, normal);
  const std::int32_t result = Select(magnitude >= 0x7C00, special, finite);
  return std::bit_cast<float>(static_cast<std::uint32_t>(result) | (static_cast<std::uint32_t>(bits & 0x8000) << 16));
}

[[gnu::always_inline]] inline std::uint16_t ToHalf(float value) {
  const std::uint32_t sign = (std::bit_cast<std::uint32_t>(value) >> 16) & 0x8000;
  const std::int32_t magnitude = Magnitude(value);
  constexpr std::int32_t kSmallestThatRoundsToInfinity = 0x477FF000;  // 65520
  constexpr std::int32_t kSmallestNormal = 0x38800000;                // 2^-14
  constexpr std::int32_t kRebias = (127 - 15) << 23;
  // Added to 2^-1, whose last place is a half's smallest subnormal, the FPU rounds where a half would.
  const std::int32_t subnormal = std::bit_cast<std::int32_t>(std::bit_cast<float>(magnitude) + 0.5F) - 0x3F000000;
  const std::int32_t normal = (magnitude - kRebias + 0x0FFF + ((magnitude >> 13) & 1)) >> 13;
  const std::int32_t finite = Select(magnitude < kSmallestNormal, subnormal, normal);
  const std::int32_t quiet_nan = 0x7E00 | ((magnitude >> 13) & 0x03FF);
  const std::int32_t special = Select(magnitude > kInfinity, quiet_nan, 0x7C00);
  const std::int32_t result = Select(magnitude >= kSmallestThatRoundsToInfinity, special, finite);
  return static_cast<std::uint16_t>(sign | static_cast<std::uint32_t>(result));
}

struct F32 {
  using Stored = float;
  static float Load(Stored value) { return value; }
  static Stored Store(float value) { return value; }
};
struct BF16 {
  using Stored = std::uint16_t;
  static float Load(Stored value) { return FromBFloat16(value); }
  static Stored Store(float value) { return ToBFloat16(value); }
};
struct F16 {
  using Stored = std::uint16_t;
  static float Load(Stored value) { return FromHalf(value); }
  static Stored Store(float value) { return ToHalf(value); }
};

// Elements that are converted at a time: arrays of a constant size, which loops can be made vector code of.
constexpr std::size_t kBlock = 128;

// The definition, and what blocks with anything but ordinary values are measured with.
void MeasureOneByOne(const float* values, const float* results, std::size_t count, Rounding& rounding) {
  for (std::size_t i = 0; i < count; ++i) {
    const float value = values[i];
    if (std::isnan(value) || std::isinf(value)) {
      ++(std::isnan(value) ? rounding.nans : rounding.infinities);
      continue;
    }
    if (results[i] == value) {
      continue;
    }
    ++rounding.inexact;
    if (std::isinf(results[i])) {
      ++rounding.overflows;
      continue;
    }
    rounding.underflows += results[i] == 0 ? 1 : 0;
    const float error = std::fabs(value - results[i]);
    rounding.largest_absolute = std::max(rounding.largest_absolute, error);
    rounding.largest_relative = std::max(rounding.largest_relative, error / std::fabs(value));
  }
}

// The same of a whole block. Magnitudes are compared by their bits, whose order is theirs.
void MeasureBlock(const float* values, const float* results, Rounding& rounding) {
  std::int32_t changed = 0;
  std::int32_t special = 0;
  std::int32_t absolute = 0;
  std::int32_t relative = 0;
  for (std::size_t i = 0; i < kBlock; ++i) {
    const std::int32_t magnitude = Magnitude(values[i]);
    const std::int32_t rounded = Magnitude(results[i]);
    const std::int32_t error = Magnitude(values[i] - results[i]);
    const auto divisor = std::bit_cast<float>(magnitude | (kOne & MaskOf(magnitude == 0)));
    const std::int32_t quotient = Magnitude(std::bit_cast<float>(error) / divisor);
    changed -= MaskOf(error != 0);
    special |= MaskOf(rounded >= kInfinity) | (magnitude & MaskOf(rounded == 0));
    absolute = std::max(absolute, error);
    relative = std::max(relative, quotient);
  }
  if (special != 0) {
    return MeasureOneByOne(values, results, kBlock, rounding);
  }
  rounding.inexact += changed;
  rounding.largest_absolute = std::max(rounding.largest_absolute, std::bit_cast<float>(absolute));
  rounding.largest_relative = std::max(rounding.largest_relative, std::bit_cast<float>(relative));
}

// Converts a whole block or the first `some` elements of one.
template <class From, class To, bool kWhole>
void ConvertBlock(bool add_one, const std::byte* source, std::byte* output, std::size_t some, Rounding* rounding) {
  const std::size_t count = kWhole ? kBlock : some;
  std::array<typename From::Stored, kBlock> stored;
  std::array<float, kBlock> values;
  std::array<typename To::Stored, kBlock> outputs;
  std::memcpy(stored.data(), source, count * sizeof(stored[0]));
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = From::Load(stored[i]);
  }
  // Adding zero would turn -0 into +0.
  for (std::size_t i = 0; add_one && i < count; ++i) {
    values[i] += 1.0F;
  }
  for (std::size_t i = 0; i < count; ++i) {
    outputs[i] = To::Store(values[i]);
  }
  std::memcpy(output, outputs.data(), count * sizeof(outputs[0]));
  if (rounding == nullptr) {
    return;
  }
  std::array<float, kBlock> results;
  for (std::size_t i = 0; i < count; ++i) {
    results[i] = To::Load(outputs[i]);
  }
  kWhole ? MeasureBlock(values.data(), results.data(), *rounding)
         : MeasureOneByOne(values.data(), results.data(), count, *rounding);
}

template <class From, class To>
void Convert(bool add_one, std::span<const std::byte> source, std::span<std::byte> output, Rounding* rounding) {
  constexpr std::size_t kFrom = sizeof(typename From::Stored);
  constexpr std::size_t kTo = sizeof(typename To::Stored);
  const std::size_t count = source.size() / kFrom;
  std::size_t done = 0;
  for (; count - done >= kBlock; done += kBlock) {
    ConvertBlock<From, To, true>(add_one, source.data() + done * kFrom, output.data() + done * kTo, kBlock, rounding);
  }
  if (done < count) {
    ConvertBlock<From, To, false>(add_one, source.data() + done * kFrom, output.data() + done * kTo, count - done,
                                  rounding);
  }
}

template <class From>
void ConvertFrom(DType to, bool add_one, std::span<const std::byte> source, std::span<std::byte> output,
                 Rounding* rounding) {
  switch (to) {
    case DType::kF32:
      return Convert<From, F32>(add_one, source, output, rounding);
    case DType::kBF16:
      return Convert<From, BF16>(add_one, source, output, rounding);
    default:
      return Convert<From, F16>(add_one, source, output, rounding);
  }
}

bool IsFloat(DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16; }

}  // namespace

float FloatFromBFloat16(std::uint16_t bits) { return FromBFloat16(bits); }
std::uint16_t BFloat16FromFloat(float value) { return ToBFloat16(value); }
float FloatFromHalf(std::uint16_t bits) { return FromHalf(bits); }
std::uint16_t HalfFromFloat(float value) { return ToHalf(value); }

bool CanTransform(const ElementTransform& transform) {
  return transform.IsCopy() || (IsFloat(transform.from) && IsFloat(transform.to));
}

void TransformElements(const ElementTransform& transform, std::span<const std::byte> source,
                       std::span<std::byte> output, Rounding* rounding) {
  if (transform.IsCopy()) {
    std::memcpy(output.data(), source.data(), source.size());
    return;
  }
  switch (transform.from) {
    case DType::kF32:
      return ConvertFrom<F32>(transform.to, transform.add_one, source, output, rounding);
    case DType::kBF16:
      return ConvertFrom<BF16>(transform.to, transform.add_one, source, output, rounding);
    default:
      return ConvertFrom<F16>(transform.to, transform.add_one, source, output, rounding);
  }
}

}  // namespace slipway::engine
