#include "worker/engine/quantize/element_codes.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/worker/engine/quantize/nearest_code.h"
#include "tests/worker/engine/quantize/vectors.h"

namespace slipway::test {
namespace {

using engine::Element;

constexpr Element kElements[] = {Element::kE4M3, Element::kE2M1, Element::kInt8, Element::kInt4};

// A NaN's sign is not torch's to say: NaNs are compared as such.
void ExpectTorchCode(std::uint8_t expected, float value) {
  const std::uint8_t code = engine::EncodeE4M3(value);
  if (std::isnan(value)) {
    EXPECT_EQ(code & 0x7F, 0x7F);
    EXPECT_EQ(expected & 0x7F, 0x7F);
    return;
  }
  EXPECT_EQ(code, expected) << value;
}

TEST(ElementCodes, OfE4M3AreTorchsForEveryBF16AndManyF32Clamped) {
  const Vectors all = ReadVectors("e4m3_cast_bf16_all");
  const auto codes = ElementsOf<std::uint8_t>(all.at("out.sat"));
  ASSERT_EQ(codes.size(), 65536);
  for (std::size_t i = 0; i < codes.size(); ++i) {
    ExpectTorchCode(codes[i], engine::FromBFloat16(static_cast<std::uint16_t>(i)));
  }
  const Vectors some = ReadVectors("e4m3_cast_f32");
  const auto values = ElementsOf<float>(some.at("in.x"));
  const auto expected = ElementsOf<std::uint8_t>(some.at("out.sat"));
  ASSERT_EQ(values.size(), expected.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    ExpectTorchCode(expected[i], values[i]);
  }
}

// Up to 464 torch rounds to 448 as we do; above, its cast without clamp gives NaN.
TEST(ElementCodes, OfE4M3AreTorchsUnclampedWhereThatIsNoNaN) {
  const Vectors some = ReadVectors("e4m3_cast_f32");
  const auto values = ElementsOf<float>(some.at("in.x"));
  const auto expected = ElementsOf<std::uint8_t>(some.at("out.raw"));
  std::int64_t nans = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if ((expected[i] & 0x7F) == 0x7F) {
      ++nans;
      EXPECT_TRUE(std::isnan(values[i]) || std::fabs(values[i]) > 464) << values[i];
    } else {
      EXPECT_EQ(engine::EncodeE4M3(values[i]), expected[i]) << values[i];
    }
  }
  EXPECT_GT(nans, 0);
}

TEST(ElementCodes, OfE4M3HaveTorchsValues) {
  const auto values = ElementsOf<float>(ReadVectors("e4m3_decode").at("out.f32"));
  ASSERT_EQ(values.size(), 256);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float value = engine::DecodeE4M3(static_cast<std::uint8_t>(i));
    if (std::isnan(values[i])) {
      EXPECT_TRUE(std::isnan(value)) << i;
    } else {
      EXPECT_EQ(engine::BitsOf(value), engine::BitsOf(values[i])) << i;
    }
  }
}

TEST(ElementCodes, OfE2M1GoToEvenInTiesAndKeepTheSignOfWhatIsBelowZero) {
  const std::pair<float, int> cases[] = {{0.25F, 0}, {0.26F, 1},   {0.5F, 1},    {0.75F, 2},  {1.25F, 2},   {1.5F, 3},
                                         {1.75F, 4}, {2.5F, 4},    {2.51F, 5},   {3.5F, 6},   {5.0F, 6},    {5.01F, 7},
                                         {7.0F, 7},  {-0.75F, 10}, {-0.1F, 8},   {-6.0F, 15}, {-0.0F, 0},   {0.0F, 0},
                                         {1e30F, 7}, {-1e30F, 15}, {-1e-45F, 8}, {1e-45F, 0}, {INFINITY, 7}};
  for (const auto& [value, code] : cases) {
    EXPECT_EQ(engine::EncodeE2M1(value), code) << value;
  }
}

TEST(ElementCodes, OfIntegersGoToEvenInTiesAndSaturate) {
  const std::pair<float, int> cases[] = {{7, 7},       {-3.5F, -4},   {0.5F, 0},      {1.49F, 1},  {1.5F, 2},
                                         {-1.5F, -2},  {2.5F, 2},     {-7, -7},       {-7.5F, -8}, {7.5F, 7},
                                         {-1e30F, -8}, {1e30F, 7},    {-0.4F, 0},     {6.5F, 6},   {-8.5F, -8},
                                         {-0.0F, 0},   {INFINITY, 7}, {-INFINITY, -8}};
  for (const auto& [value, code] : cases) {
    EXPECT_EQ(static_cast<std::int8_t>(engine::Encode(Element::kInt4, value)), code) << value;
  }
  EXPECT_EQ(engine::Encode(Element::kInt8, 127.5F), 127);
  EXPECT_EQ(engine::Encode(Element::kInt8, -127.5F), 128);  // -128
  EXPECT_EQ(engine::Encode(Element::kInt8, -1000), 128);
  EXPECT_EQ(engine::Encode(Element::kInt8, 126.5F), 126);
}

// Each midpoint of two neighbours, the values on both sides of it, and the codes' own values.
TEST(ElementCodes, AreTheNearestAroundEveryMidpoint) {
  for (const Element element : kElements) {
    for (const int code : CodesOf(element)) {
      for (const int other : CodesOf(element)) {
        const auto middle = static_cast<float>((ValueOfCode(element, code) + ValueOfCode(element, other)) / 2);
        for (const float value : {middle, std::nextafter(middle, 1e9F), std::nextafter(middle, -1e9F)}) {
          ASSERT_EQ(engine::Encode(element, value), NearestCode(element, static_cast<double>(value)))
              << value << " of element " << static_cast<int>(element);
        }
      }
      ASSERT_EQ(static_cast<double>(engine::Decode(element, static_cast<std::uint8_t>(code))),
                ValueOfCode(element, code));
    }
  }
}

TEST(ElementCodes, AreTheNearestForValuesAllOverF32) {
  for (const Element element : kElements) {
    for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 49'999) {
      const float value = engine::FloatOf(static_cast<std::uint32_t>(bits));
      if (!std::isnan(value)) {
        ASSERT_EQ(engine::Encode(element, value), NearestCode(element, static_cast<double>(value))) << value;
      }
    }
  }
}

TEST(ElementCodes, OfE8M0ArePowersOfTwo) {
  for (int code = 0; code < 255; ++code) {
    EXPECT_EQ(engine::DecodeE8M0(static_cast<std::uint8_t>(code)), std::ldexp(1.0F, code - 127));
  }
}

}  // namespace
}  // namespace slipway::test
