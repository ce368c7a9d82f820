#include "worker/engine/transform/element_transform.h"

#include <bit>
#include <cstring>

namespace slipway::engine {
namespace {

static_assert(std::endian::native == std::endian::little, "checkpoints and safetensors are little-endian");

struct F32 {
  using Stored = float;
  static float Load(Stored value) { return value; }
  static Stored Store(float value) { return value; }
};
struct BF16 {
  using Stored = std::uint16_t;
  static float Load(Stored value) { return FloatFromBFloat16(value); }
  static Stored Store(float value) { return BFloat16FromFloat(value); }
};
struct F16 {
  using Stored = std::uint16_t;
  static float Load(Stored value) { return FloatFromHalf(value); }
  static Stored Store(float value) { return HalfFromFloat(value); }
};

template <class From, class To>
void Convert(bool add_one, std::span<const std::byte> source, std::span<std::byte> output) {
  using Source = typename From::Stored;
  using Output = typename To::Stored;
  const std::size_t count = source.size() / sizeof(Source);

  for (std::size_t i = 0; i < count; ++i) {
    Source stored{};
    std::memcpy(&stored, source.data() + i * sizeof(Source), sizeof(Source));
    const float value = From::Load(stored);
    // Adding zero would turn -0 into +0.
    const Output result = To::Store(add_one ? value + 1.0F : value);
    std::memcpy(output.data() + i * sizeof(Output), &result, sizeof(Output));
  }
}

template <class From>
void ConvertFrom(DType to, bool add_one, std::span<const std::byte> source, std::span<std::byte> output) {
  switch (to) {
    case DType::kF32:
      return Convert<From, F32>(add_one, source, output);
    case DType::kBF16:
      return Convert<From, BF16>(add_one, source, output);
    default:
      return Convert<From, F16>(add_one, source, output);
  }
}

bool IsFloat(DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16; }

}  // namespace

float FloatFromBFloat16(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

std::uint16_t BFloat16FromFloat(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  constexpr std::uint32_t kInfinity = 0x7F800000;
  if ((bits & 0x7FFFFFFF) > kInfinity) {
    return static_cast<std::uint16_t>((bits >> 16) | 0x0040);
  }
  const std::uint32_t half_way = 0x7FFF + ((bits >> 16) & 1);
  return static_cast<std::uint16_t>((bits + half_way) >> 16);
}

float FloatFromHalf(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1F;
  const std::uint32_t fraction = bits & 0x03FF;
  if (exponent == 0x1F) {
    const std::uint32_t quiet = fraction != 0 ? 0x00400000 : 0;
    return std::bit_cast<float>(sign | 0x7F800000 | quiet | (fraction << 13));
  }
  if (exponent == 0) {
    // Subnormal: fraction times 2^-24, exact in binary32.
    const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
  }
  return std::bit_cast<float>(sign | ((exponent + 127 - 15) << 23) | (fraction << 13));
}

std::uint16_t HalfFromFloat(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000);
  const std::uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) {
    return static_cast<std::uint16_t>(sign | 0x7E00 | ((magnitude >> 13) & 0x03FF));
  }
  constexpr std::uint32_t kSmallestThatRoundsToInfinity = 0x477FF000;  // 65520
  if (magnitude >= kSmallestThatRoundsToInfinity) {
    return static_cast<std::uint16_t>(sign | 0x7C00);
  }
  constexpr std::uint32_t kSmallestNormal = 0x38800000;  // 2^-14
  if (magnitude < kSmallestNormal) {
    // Added to 2^-1, whose last place is a half's smallest subnormal, the FPU rounds where a half would.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3F000000));
  }
  const std::uint32_t half_way = 0x0FFF + ((magnitude >> 13) & 1);
  constexpr std::uint32_t kRebias = std::uint32_t{127 - 15} << 23;
  return static_cast<std::uint16_t>(sign | ((magnitude + half_way - kRebias) >> 13));
}

bool CanTransform(const ElementTransform& transform) {
  return transform.IsCopy() || (IsFloat(transform.from) && IsFloat(transform.to));
}

void TransformElements(const ElementTransform& transform, std::span<const std::byte> source,
                       std::span<std::byte> output) {
  if (transform.IsCopy()) {
    std::memcpy(output.data(), source.data(), source.size());
    return;
  }
  switch (transform.from) {
    case DType::kF32:
      return ConvertFrom<F32>(transform.to, transform.add_one, source, output);
    case DType::kBF16:
      return ConvertFrom<BF16>(transform.to, transform.add_one, source, output);
    default:
      return ConvertFrom<F16>(transform.to, transform.add_one, source, output);
  }
}

}  // namespace slipway::engine
