// Binary32 and the two 16-bit floats by their bits, for the host and for GPUs: by selection rather than by branches, so
// that compilers make vector code of loops around them.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define SLIPWAY_HOST_DEVICE __host__ __device__
#else
#define SLIPWAY_HOST_DEVICE
#endif

namespace slipway::engine {

[[gnu::always_inline]] SLIPWAY_HOST_DEVICE constexpr std::uint32_t BitsOf(float value) {
  return __builtin_bit_cast(std::uint32_t, value);
}

[[gnu::always_inline]] SLIPWAY_HOST_DEVICE constexpr float FloatOf(std::uint32_t bits) {
  return __builtin_bit_cast(float, bits);
}

// The bits without the sign; of numbers, they are in the order of the magnitudes.
[[gnu::always_inline]] SLIPWAY_HOST_DEVICE constexpr std::int32_t Magnitude(float value) {
  return static_cast<std::int32_t>(BitsOf(value) & 0x7FFFFFFF);
}

inline constexpr std::int32_t kInfinityBits = 0x7F800000;

// All bits or none.
[[gnu::always_inline]] SLIPWAY_HOST_DEVICE constexpr std::int32_t MaskOf(bool condition) {
  return -static_cast<std::int32_t>(condition);
}

[[gnu::always_inline]] SLIPWAY_HOST_DEVICE constexpr std::int32_t Select(bool condition, std::int32_t yes,
                                                                         std::int32_t no) {
  return no ^ ((yes ^ no) & MaskOf(condition));
}

[[gnu::always_inline]] SLIPWAY_HOST_DEVICE constexpr float FromBFloat16(std::uint16_t bits) {
  return FloatOf(static_cast<std::uint32_t>(bits) << 16);
}

// To nearest, ties to even. A NaN stays one (quiet, sign and leading payload kept); so below.
[[gnu::always_inline]] SLIPWAY_HOST_DEVICE constexpr std::uint16_t ToBFloat16(float value) {
  const std::uint32_t bits = BitsOf(value);
  const std::uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  const std::uint32_t quiet_nan = (bits >> 16) | 0x0040;
  return static_cast<std::uint16_t>(Magnitude(value) > kInfinityBits ? quiet_nan : rounded);
}

[[gnu::always_inline]] SLIPWAY_HOST_DEVICE constexpr float FromHalf(std::uint16_t bits) {
  const std::int32_t magnitude = bits & 0x7FFF;
  const std::int32_t fraction = bits & 0x03FF;
  // Subnormal: fraction times 2^-24, exact in binary32.
  const auto subnormal = static_cast<std::int32_t>(BitsOf(static_cast<float>(fraction) * 0x1p-24F));
  const std::int32_t normal = (magnitude << 13) + ((127 - 15) << 23);
  const std::int32_t special = kInfinityBits | (magnitude << 13) | (0x00400000 & MaskOf(fraction != 0));
  const std::int32_t finite = Select(magnitude < 0x0400, subnormal, normal);
  const std::int32_t result = Select(magnitude >= 0x7C00, special, finite);
  return FloatOf(static_cast<std::uint32_t>(result) | (static_cast<std::uint32_t>(bits & 0x8000) << 16));
}

[[gnu::always_inline]] SLIPWAY_HOST_DEVICE constexpr std::uint16_t ToHalf(float value) {
  const std::uint32_t sign = (BitsOf(value) >> 16) & 0x8000;
  const std::int32_t magnitude = Magnitude(value);
  constexpr std::int32_t kSmallestThatRoundsToInfinity = 0x477FF000;  // 65520
  constexpr std::int32_t kSmallestNormal = 0x38800000;                // 2^-14
  constexpr std::int32_t kRebias = (127 - 15) << 23;
  // Added to 2^-1, whose last place is a half's smallest subnormal, the FPU rounds where a half would.
  const float sum = FloatOf(static_cast<std::uint32_t>(magnitude)) + 0.5F;
  const std::int32_t subnormal = static_cast<std::int32_t>(BitsOf(sum)) - 0x3F000000;
  const std::int32_t normal = (magnitude - kRebias + 0x0FFF + ((magnitude >> 13) & 1)) >> 13;
  const std::int32_t finite = Select(magnitude < kSmallestNormal, subnormal, normal);
  const std::int32_t quiet_nan = 0x7E00 | ((magnitude >> 13) & 0x03FF);
  const std::int32_t special = Select(magnitude > kInfinityBits, quiet_nan, 0x7C00);
  const std::int32_t result = Select(magnitude >= kSmallestThatRoundsToInfinity, special, finite);
  return static_cast<std::uint16_t>(sign | static_cast<std::uint32_t>(result));
}

}  // namespace slipway::engine
