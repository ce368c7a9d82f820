#include "worker/engine/transform/element_transform.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "worker/engine/float_bits.h"

namespace slipway::engine {
namespace {

static_assert(std::endian::native == std::endian::little, "checkpoints and safetensors are little-endian");

constexpr std::int32_t kOne = 0x3F800000;

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
    special |= MaskOf(rounded >= kInfinityBits) | (magnitude & MaskOf(rounded == 0));
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
