#include "worker/engine/transform/element_transform.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

namespace slipway::engine {
namespace {

// The nearest of all finite 16-bit values to `value` by exhaustive search in double, ties to the even pattern: what
// rounding means, without a shortcut.
template <class ToFloat>
std::uint16_t NearestByDefinition(float value, std::uint16_t infinity, double overflow, ToFloat to_float) {
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(static_cast<double>(value));
  if (magnitude >= overflow) {
    return static_cast<std::uint16_t>(sign | infinity);
  }
  std::uint16_t low = 0;
  std::uint16_t high = infinity;  // to_float(low) <= magnitude < "to_float(high)"
  while (high - low > 1) {
    const auto middle = static_cast<std::uint16_t>((low + high) / 2);
    (static_cast<double>(to_float(middle)) <= magnitude ? low : high) = middle;
  }
  if (high == infinity) {
    const double last_step =
        static_cast<double>(to_float(low)) - static_cast<double>(to_float(static_cast<std::uint16_t>(low - 1)));
    return static_cast<std::uint16_t>(
        sign | (magnitude < static_cast<double>(to_float(low)) + last_step / 2 ? low : infinity));
  }
  const double below = magnitude - static_cast<double>(to_float(low));
  const double above = static_cast<double>(to_float(high)) - magnitude;
  const bool up = above < below || (above == below && (high & 1) == 0);
  return static_cast<std::uint16_t>(sign | (up ? high : low));
}

// Floats that cover all exponents and many fractions, ties among them.
std::vector<float> InterestingFloats() {
  std::vector<float> values;
  for (std::uint32_t exponent = 0; exponent < 255; ++exponent) {
    for (const std::uint32_t fraction : {0U, 1U, 0xFFFU, 0x1000U, 0x1001U, 0x3000U, 0x7FFFU, 0x8000U, 0x8001U, 0x18000U,
                                         0x345678U, 0x7FF000U, 0x7FFFFFU}) {
      for (const std::uint32_t sign : {0U, 1U}) {
        values.push_back(std::bit_cast<float>((sign << 31) | (exponent << 23) | fraction));
      }
    }
  }
  return values;
}

TEST(ElementTransform, BFloat16RoundsToTheNearestTiesToEven) {
  const double overflow = std::ldexp(2.0 - std::ldexp(1.0, -8), 127);
  for (const float value : InterestingFloats()) {
    ASSERT_EQ(BFloat16FromFloat(value), NearestByDefinition(value, 0x7F80, overflow, FloatFromBFloat16)) << value;
  }
}

TEST(ElementTransform, HalfRoundsToTheNearestTiesToEvenSubnormalsIncluded) {
  for (const float value : InterestingFloats()) {
    ASSERT_EQ(HalfFromFloat(value), NearestByDefinition(value, 0x7C00, 65520.0, FloatFromHalf)) << value;
  }
}

TEST(ElementTransform, HalvesHaveTheirDefinedValues) {
  EXPECT_EQ(FloatFromHalf(0x3C00), 1.0F);
  EXPECT_EQ(FloatFromHalf(0xC000), -2.0F);
  EXPECT_EQ(FloatFromHalf(0x7BFF), 65504.0F);
  EXPECT_EQ(FloatFromHalf(0x0001), 0x1p-24F);
  EXPECT_EQ(FloatFromHalf(0x0400), 0x1p-14F);
  EXPECT_EQ(FloatFromHalf(0xFC00), -std::numeric_limits<float>::infinity());
}

TEST(ElementTransform, Every16BitValueComesBackFromFloatAsItWas) {
  for (std::uint32_t bits = 0; bits <= 0xFFFF; ++bits) {
    const auto pattern = static_cast<std::uint16_t>(bits);
    if (!std::isnan(FloatFromHalf(pattern))) {
      ASSERT_EQ(HalfFromFloat(FloatFromHalf(pattern)), pattern);
    }
    if (!std::isnan(FloatFromBFloat16(pattern))) {
      ASSERT_EQ(BFloat16FromFloat(FloatFromBFloat16(pattern)), pattern);
    }
  }
}

TEST(ElementTransform, InfinityStaysAndNanStaysNan) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(BFloat16FromFloat(-infinity), 0xFF80);
  EXPECT_EQ(HalfFromFloat(infinity), 0x7C00);
  // A NaN whose payload lies only in bits that are cut off must not become infinity.
  const auto nan = std::bit_cast<float>(0x7F800001U);
  EXPECT_TRUE(std::isnan(FloatFromBFloat16(BFloat16FromFloat(nan))));
  EXPECT_TRUE(std::isnan(FloatFromHalf(HalfFromFloat(nan))));
}

TEST(ElementTransform, OneIsAddedInFp32BeforeRoundingOnce) {
  // 2^-9 is far below BF16's precision at 1: 1 + 2^-9 is a quarter step and rounds to 1; 1 + 3 * 2^-9 rounds up.
  const std::uint16_t source[] = {BFloat16FromFloat(0x1p-9F), BFloat16FromFloat(0x1.8p-8F), BFloat16FromFloat(-1.0F)};
  std::uint16_t output[3] = {};
  TransformElements({.add_one = true}, std::as_bytes(std::span(source)), std::as_writable_bytes(std::span(output)));
  EXPECT_EQ(output[0], BFloat16FromFloat(1.0F));
  EXPECT_EQ(output[1], 0x3F81);
  EXPECT_EQ(output[2], 0);
}

TEST(ElementTransform, UnalignedSourcesAreConverted) {
  std::byte source[9] = {};
  const float values[] = {1.5F, -0.0F};
  std::memcpy(source + 1, values, sizeof(values));
  std::uint16_t output[2] = {};
  TransformElements({.from = DType::kF32, .to = DType::kF16}, std::span(source).subspan(1),
                    std::as_writable_bytes(std::span(output)));
  EXPECT_EQ(output[0], 0x3E00);
  EXPECT_EQ(output[1], 0x8000);
}

TEST(ElementTransform, ArithmeticOnIntegersIsNotOffered) {
  EXPECT_TRUE(CanTransform({.from = DType::kI64, .to = DType::kI64}));
  EXPECT_FALSE(CanTransform({.from = DType::kI64, .to = DType::kBF16}));
  EXPECT_FALSE(CanTransform({.add_one = true, .from = DType::kU8, .to = DType::kU8}));
}

}  // namespace
}  // namespace slipway::engine
