// The short way to a quotient gives the codes that the division gives.
#include "worker/engine/quantize/cuda/quotient.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "worker/engine/quantize/element_codes.h"

namespace slipway::engine {
namespace {

constexpr Element kElements[] = {Element::kE4M3, Element::kE2M1, Element::kInt8, Element::kInt4};

float FiniteFrom(std::uint64_t random) {
  const auto bits = static_cast<std::uint32_t>(random);
  return FloatOf((bits & 0x7F800000U) == 0x7F800000U ? bits ^ 0x40000000U : bits);
}

TEST(Quotient, IsTheDivisionsWhereItMatters) {
  std::mt19937_64 random(3);
  std::int64_t corrected = 0;
  for (int i = 0; i < 3'000'000; ++i) {
    const float scale = std::fabs(FiniteFrom(random()));
    float value = FiniteFrom(random());
    if (i % 2 == 0) {  // near the middle between two elements, where the last place decides
      value = scale * 0.0625F * static_cast<float>(random() % 128);
      value = FloatOf(BitsOf(value) + static_cast<std::uint32_t>(random() % 3) - 1);
    }
    const Divisor divisor = MakeDivisor(scale, std::fabs(value), DType::kF32);
    if (!divisor.corrected || !std::isfinite(value)) {
      continue;
    }
    ++corrected;
    const float expected = value / scale;
    const float actual = QuotientOf(value, divisor);
    if (std::fabs(expected) >= 0x1p-19F) {
      ASSERT_EQ(actual, expected) << value << " / " << scale;
    }
    for (const Element element : kElements) {
      const float with_sign = element == Element::kE2M1 ? actual : std::copysign(actual, value);
      ASSERT_EQ(Encode(element, with_sign), Encode(element, expected)) << value << " / " << scale;
    }
  }
  EXPECT_GT(corrected, 500'000);
}

// The GPU tries all pairs of significands (cuda_quantize_check); here, some of them.
TEST(Quotient, NeedsOneCorrectionForValuesOfElevenBits) {
  std::mt19937 random(5);
  for (int i = 0; i < 3'000'000; ++i) {
    const float scale =
        std::ldexp(1 + std::ldexp(static_cast<float>(random() >> 9), -23), static_cast<int>(random() % 60) - 50);
    const float value =
        std::ldexp(1 + std::ldexp(static_cast<float>(random() >> 22), -10), static_cast<int>(random() % 60) - 50);
    const Divisor divisor = MakeDivisor(scale, 0, DType::kF16);
    ASSERT_TRUE(divisor.corrected);
    ASSERT_EQ(ShortQuotientOf(value, divisor), value / scale) << value << " / " << scale;
  }
}

TEST(Quotient, OfAPowerOfTwoIsTheDivisions) {
  for (int exponent = -80; exponent <= 16; ++exponent) {
    const float scale = std::ldexp(1.0F, exponent);
    const float value = std::ldexp(-1.6328125F, exponent + exponent % 3);
    const PowerDivisor divisor = MakePowerDivisor(scale, std::fabs(value), DType::kBF16);
    ASSERT_TRUE(divisor.corrected);
    ASSERT_EQ(QuotientOf<DType::kBF16>(value, divisor), value / scale);
    ASSERT_FALSE(std::signbit(QuotientOf<DType::kBF16>(-0.0F, divisor)));
  }
  EXPECT_FALSE(MakePowerDivisor(0x1p-81F, 0, DType::kBF16).corrected);
  EXPECT_FALSE(MakePowerDivisor(0x1p17F, 0, DType::kBF16).corrected);
}

// Every 509th float up to the limits, and all around the middles between elements.
TEST(Quotient, BecomesTheNearestElement) {
  const auto check = [](float quotient) {
    for (const Element element : {Element::kE2M1, Element::kE4M3}) {
      const float nearest = element == Element::kE2M1 ? NearestMagnitude<Element::kE2M1>(quotient)
                                                      : NearestMagnitude<Element::kE4M3>(quotient);
      ASSERT_EQ(nearest, Decode(element, Encode(element, quotient))) << quotient;
    }
    if (quotient <= kSmallQuotient) {
      ASSERT_EQ(EncodeE2M1Magnitude(quotient), 0x4B400000U + EncodeE2M1(quotient)) << quotient;
    }
    for (const float either : {quotient, -quotient}) {
      ASSERT_EQ(NearestInteger<Element::kInt8>(either), Decode(Element::kInt8, Encode(Element::kInt8, either)));
      ASSERT_EQ(NearestInteger<Element::kInt4>(either), Decode(Element::kInt4, Encode(Element::kInt4, either)));
    }
  };
  for (std::uint32_t bits = 0; bits < BitsOf(1000.0F); bits += 509) {
    check(FloatOf(bits));
    if (HasFatalFailure()) {
      return;
    }
  }
  for (int sixteenths = 1; sixteenths < 7500; ++sixteenths) {
    const std::uint32_t middle = BitsOf(static_cast<float>(sixteenths) / 16);
    for (const std::uint32_t bits : {middle - 1, middle, middle + 1}) {
      check(FloatOf(bits));
    }
  }
}

TEST(Quotient, OfAZeroIsAPositiveZero) {
  for (const float zero : {0.0F, -0.0F}) {
    EXPECT_EQ(BitsOf(QuotientOf(zero, MakeDivisor(0.3F, 1, DType::kBF16))), 0U);
  }
}

TEST(Quotient, IsDividedWhereTheScaleIsOutOfRange) {
  for (const float scale : {0x1p-81F, 0x1p-127F, 0x1p17F}) {
    EXPECT_FALSE(MakeDivisor(scale, 0, DType::kBF16).corrected);
  }
  EXPECT_FALSE(MakeDivisor(2.0F, 0, DType::kF32).corrected);
  EXPECT_FALSE(MakeDivisor(0x1p-60F, 1, DType::kF32).corrected) << "the quotient is too large";
  EXPECT_TRUE(MakeDivisor(1e-4F, 0.04F, DType::kF32).corrected);
}

TEST(Quotient, BecomesTheE2M1CodeOfTheDefinition) {
  const auto check = [](std::uint32_t bits) {
    const float quotient = FloatOf(bits);
    if (bits != 0x80000000U && !std::isnan(quotient)) {
      ASSERT_EQ(EncodeE2M1Quotient(quotient), EncodeE2M1(quotient)) << quotient;
    }
  };
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 1021) {
    check(static_cast<std::uint32_t>(bits));
  }
  for (const float middle : {0.25F, 0.5F, 0.75F, 1.0F, 1.25F, 1.5F, 1.75F, 2.0F, 2.5F, 3.0F, 3.5F, 4.0F, 5.0F, 6.0F}) {
    for (const std::uint32_t step : {0U, 1U, ~0U}) {
      check(BitsOf(middle) + step);
      check(BitsOf(-middle) + step);
    }
  }
}

}  // namespace
}  // namespace slipway::engine
