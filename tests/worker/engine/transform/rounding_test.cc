#include "worker/engine/transform/rounding.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "worker/engine/transform/element_transform.h"

namespace slipway::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

template <class Stored>
Rounding Measure(const std::vector<Stored>& source, const ElementTransform& transform) {
  std::vector<std::byte> output(source.size() * static_cast<std::size_t>(InfoOf(transform.to).bytes));
  Rounding rounding;
  TransformElements(transform, std::as_bytes(std::span(source)), output, &rounding);
  return rounding;
}

TEST(Rounding, OfF32ToBF16IsWhatItIsByHand) {
  const float greatest = std::numeric_limits<float>::max();
  // BF16 has steps of 2^-7 from 1 on: both ties go to the even neighbour, one down and one up.
  const std::vector<float> source = {1.0F, 1 + 0x1p-8F, -1 - 0x3p-8F, 0.0F,      -0.0F,
                                     kNaN, kInfinity,   -kInfinity,   0x1p-149F, greatest};
  const Rounding expected{.inexact = 4,
                          .overflows = 1,
                          .underflows = 1,
                          .nans = 1,
                          .infinities = 2,
                          .largest_absolute = 0x1p-8F,
                          .largest_relative = 1};
  EXPECT_EQ(Measure(source, {.from = DType::kF32, .to = DType::kBF16}), expected);
  const Rounding of_ties{.inexact = 2, .largest_absolute = 0x1p-8F, .largest_relative = 0x1p-8F / (1 + 0x1p-8F)};
  EXPECT_EQ(Measure<float>({1 + 0x1p-8F, -1 - 0x3p-8F}, {.from = DType::kF32, .to = DType::kBF16}), of_ties);
}

TEST(Rounding, OfF32ToF16IsWhatItIsByHand) {
  // From 65520 on halves are infinite; their subnormals have steps of 2^-24.
  const std::vector<float> source = {65504,    65519,      65520,    70000,    -65520,
                                     0x1p-24F, 0x1.8p-24F, 0x1p-25F, 0x3p-26F, 0.5F};
  const Rounding expected{.inexact = 7, .overflows = 3, .underflows = 1, .largest_absolute = 15, .largest_relative = 1};
  EXPECT_EQ(Measure(source, {.from = DType::kF32, .to = DType::kF16}), expected);
  const Rounding of_subnormals{.inexact = 2, .largest_absolute = 0x1p-25F, .largest_relative = 1.0F / 3};
  EXPECT_EQ(Measure<float>({0x1.8p-24F, 0x3p-26F}, {.from = DType::kF32, .to = DType::kF16}), of_subnormals);
}

TEST(Rounding, OfSixteenBitFormatsIsWhatItIsByHand) {
  // 1, 65536, 2^-24, 2^-30, NaN, infinity.
  const std::vector<std::uint16_t> bf16 = {0x3F80, 0x4780, 0x3380, 0x3080, 0x7FC0, 0xFF80};
  const Rounding narrower{.inexact = 2,
                          .overflows = 1,
                          .underflows = 1,
                          .nans = 1,
                          .infinities = 1,
                          .largest_absolute = 0x1p-30F,
                          .largest_relative = 1};
  EXPECT_EQ(Measure(bf16, {.from = DType::kBF16, .to = DType::kF16}), narrower);
  const Rounding wider{.nans = 1, .infinities = 1};
  EXPECT_EQ(Measure(bf16, {.from = DType::kBF16, .to = DType::kF32}), wider);
  // 1.5 and 1 + 2^-10.
  const Rounding coarser{.inexact = 1, .largest_absolute = 0x1p-10F, .largest_relative = 0x1p-10F / (1 + 0x1p-10F)};
  EXPECT_EQ(Measure<std::uint16_t>({0x3E00, 0x3C01}, {.from = DType::kF16, .to = DType::kBF16}), coarser);
}

TEST(Rounding, IsThatOfTheValueAfterOneWasAdded) {
  const Rounding expected{.inexact = 1, .largest_absolute = 0x1p-8F, .largest_relative = 0x1p-8F / (1 + 0x1p-8F)};
  EXPECT_EQ(Measure<float>({0x1p-8F, 0}, {.add_one = true, .from = DType::kF32, .to = DType::kBF16}), expected);
}

struct Format {
  DType dtype;
  int exponent_bits;
  int fraction_bits;
};
constexpr Format kFormats[] = {{DType::kF32, 8, 23}, {DType::kBF16, 8, 7}, {DType::kF16, 5, 10}};

// By the definition of the formats.
double ValueOf(const Format& format, std::uint32_t bits) {
  const std::uint32_t fraction = bits & ((1U << format.fraction_bits) - 1);
  const auto exponent = static_cast<int>((bits >> format.fraction_bits) & ((1U << format.exponent_bits) - 1));
  const int bias = (1 << (format.exponent_bits - 1)) - 1;
  const bool negative = (bits >> (format.fraction_bits + format.exponent_bits)) != 0;
  double value = std::ldexp(fraction, 1 - bias - format.fraction_bits);
  if (exponent == (1 << format.exponent_bits) - 1) {
    value = fraction == 0 ? HUGE_VAL : std::nan("");
  } else if (exponent > 0) {
    value = std::ldexp(fraction + (1U << format.fraction_bits), exponent - bias - format.fraction_bits);
  }
  return negative ? -value : value;
}

std::uint32_t BitsAt(const Format& format, const std::vector<std::byte>& bytes, std::size_t index) {
  const auto size = static_cast<std::size_t>(InfoOf(format.dtype).bytes);
  std::uint32_t bits = 0;
  std::memcpy(&bits, bytes.data() + index * size, size);
  return bits;
}

Rounding ByDefinition(const Format& from, const std::vector<std::byte>& source, const Format& to,
                      const std::vector<std::byte>& output) {
  Rounding rounding;
  for (std::size_t i = 0; i < source.size() / static_cast<std::size_t>(InfoOf(from.dtype).bytes); ++i) {
    const double before = ValueOf(from, BitsAt(from, source, i));
    const double after = ValueOf(to, BitsAt(to, output, i));
    rounding.nans += std::isnan(before) ? 1 : 0;
    rounding.infinities += std::isinf(before) ? 1 : 0;
    if (std::isfinite(before) && after != before) {
      ++rounding.inexact;
      rounding.overflows += std::isinf(after) ? 1 : 0;
      rounding.underflows += after == 0 ? 1 : 0;
      if (std::isfinite(after)) {
        const double error = std::fabs(before - after);
        rounding.largest_absolute = std::max(rounding.largest_absolute, static_cast<float>(error));
        rounding.largest_relative = std::max(rounding.largest_relative, static_cast<float>(error / std::fabs(before)));
      }
    }
  }
  return rounding;
}

TEST(Rounding, IsWhatItsDefinitionSaysForAllPairsOfFormatsAndAnyNumberOfElements) {
  std::mt19937 random(3);
  for (const Format& from : kFormats) {
    for (const Format& to : kFormats) {
      if (from.dtype == to.dtype) {
        continue;
      }
      const auto size = static_cast<std::size_t>(InfoOf(from.dtype).bytes);
      for (const bool ordinary : {true, false}) {
        for (const std::size_t count : {0UL, 1UL, 127UL, 128UL, 129UL, 1000UL, 20'000UL}) {
          std::vector<std::byte> source(count * size);
          for (std::size_t i = 0; i < count; ++i) {
            // Any bits at all, or numbers of magnitudes from 2^-6 to 4, that every format has.
            std::uint32_t bits = random();
            if (ordinary) {
              const std::uint32_t exponent = (1U << (from.exponent_bits - 1)) - 1 - 6 + random() % 8;
              bits = (bits & 1) << (from.exponent_bits + from.fraction_bits) | exponent << from.fraction_bits |
                     (random() & ((1U << from.fraction_bits) - 1));
            }
            std::memcpy(source.data() + i * size, &bits, size);
          }
          std::vector<std::byte> output(count * static_cast<std::size_t>(InfoOf(to.dtype).bytes));
          const ElementTransform transform{.add_one = false, .from = from.dtype, .to = to.dtype};
          Rounding whole;
          TransformElements(transform, source, output, &whole);
          EXPECT_EQ(whole, ByDefinition(from, source, to, output))
              << InfoOf(from.dtype).safetensors_name << " to " << InfoOf(to.dtype).safetensors_name << ", " << count;
          // In two parts, merged the other way round.
          const std::size_t cut = count / 3 * size;
          Rounding first;
          Rounding second;
          TransformElements(transform, std::span(source).first(cut), output, &first);
          TransformElements(transform, std::span(source).subspan(cut), output, &second);
          second.Merge(first);
          EXPECT_EQ(second, whole);
        }
      }
    }
  }
}

TEST(Rounding, IsWarnedOfWhereLargeWeightsHaveNoPlace) {
  EXPECT_NE(OverflowWarning(DType::kF32, DType::kF16), "");
  EXPECT_NE(OverflowWarning(DType::kBF16, DType::kF16), "");
  EXPECT_EQ(OverflowWarning(DType::kF16, DType::kF16), "");
  EXPECT_EQ(OverflowWarning(DType::kF16, DType::kBF16), "");
  EXPECT_EQ(OverflowWarning(DType::kF32, DType::kBF16), "");
}

}  // namespace
}  // namespace slipway::engine
