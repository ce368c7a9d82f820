// Vector code of every instruction set gives the bytes of the reference.
#include "worker/engine/quantize/simd.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hwy/highway.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "tests/worker/engine/quantize/codings.h"
#include "worker/engine/quantize/reference.h"

namespace slipway::test {
namespace {

using engine::QuantizeJob;
using engine::Quantizer;
using engine::RowStatistics;
using engine::Values;

// Calls check() under each instruction set that this machine has, and without any.
template <class Check>
void UnderEachInstructionSet(const Check& check) {
  for (std::int64_t left = hwy::SupportedTargets() & HWY_TARGETS; left != 0; left &= left - 1) {
    hwy::SetSupportedTargetsForTest(left & -left);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    const std::string_view name = hwy::TargetName(left & -left);
    SCOPED_TRACE(name);
    ASSERT_EQ(engine::MakeSimdQuantizer()->name(), name);
    check();
    hwy::SetSupportedTargetsForTest(0);
  }
  hwy::GetChosenTarget().DeInit();
}

// What numbers are like.
enum class Kind { kWeights, kAnyBits, kTies };

// Finite numbers at an odd address.
class Band {
 public:
  Band(DType dtype, Kind kind, std::int64_t rows, std::int64_t columns)
      : size_(dtype == DType::kF32 ? 4 : 2), bytes_(static_cast<std::size_t>(rows * columns) * size_ + 1) {
    values_ = {
        .dtype = dtype, .bytes = std::span<const std::byte>(bytes_).subspan(1), .rows = rows, .columns = columns};
    std::mt19937 random(static_cast<unsigned>(rows * 1000 + columns));
    for (std::size_t i = 0; i < static_cast<std::size_t>(rows * columns); ++i) {
      const std::uint32_t bits = Bits(dtype, kind, random);
      std::memcpy(bytes_.data() + 1 + i * size_, &bits, size_);
    }
  }

  [[nodiscard]] const Values& values() const { return values_; }
  void Set(std::size_t index, std::uint32_t bits) { std::memcpy(bytes_.data() + 1 + index * size_, &bits, size_); }

 private:
  static std::uint32_t Bits(DType dtype, Kind kind, std::mt19937& random) {
    const std::uint32_t any = random();
    if (kind == Kind::kAnyBits) {
      const std::uint32_t exponent = dtype == DType::kF16 ? 0x7C00U : dtype == DType::kBF16 ? 0x7F80U : 0x7F800000U;
      return (any & exponent) == exponent ? any & ~exponent : any;
    }
    // In steps of a sixteenth everything that an element can be, and the middles between them, occur.
    float value = static_cast<float>(static_cast<int>(any % 257) - 128) / 16 * (any % 5 == 0 ? 16.0F : 1.0F);
    if (kind == Kind::kWeights) {
      value = std::normal_distribution<float>(0, 0.02F)(random);
    } else if (any % 7 == 0) {
      value = any % 2 == 0 ? 0.0F : -0.0F;
    }
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if (dtype == DType::kF32) {
      return bits;
    }
    // Cut off, not rounded; a half's number times 2^-112 has its bits.
    return dtype == DType::kBF16
               ? bits >> 16
               : (std::bit_cast<std::uint32_t>(std::fabs(value) * 0x1p-112F) >> 13) | (bits >> 31) << 15;
  }

  std::size_t size_;
  std::vector<std::byte> bytes_;
  Values values_;
};

QuantizeJob JobOf(const Coding& coding, const Values& values, float tensor_scale) {
  QuantizeJob job;
  job.coding = coding;
  job.values = values;
  job.tensor_scale = tensor_scale;
  return job;
}

struct Outputs {
  std::vector<std::byte> codes;
  std::vector<std::byte> scales;
  std::vector<std::byte> zero_points;
  std::vector<RowStatistics> statistics;
};

struct Wanted {
  bool codes = true;
  bool scales = true;
  bool statistics = true;
};

Outputs Quantize(Quantizer& quantizer, QuantizeJob job, const Wanted& wanted = {}) {
  const auto rows = job.values.rows;
  const auto columns = job.values.columns;
  Outputs outputs;
  const auto scale_bytes = engine::InfoOf(job.coding.scale_dtype).bytes;
  outputs.codes.resize(wanted.codes ? static_cast<std::size_t>(CodeBytes(job.coding, rows, columns)) : 0);
  outputs.scales.resize(wanted.scales ? static_cast<std::size_t>(ScaleCount(job.coding, rows, columns) * scale_bytes)
                                      : 0);
  outputs.zero_points.resize(wanted.scales && HasZeroPoints(job.coding.rule)
                                 ? static_cast<std::size_t>(ScaleCount(job.coding, rows, columns))
                                 : 0);
  outputs.statistics.resize(wanted.statistics ? static_cast<std::size_t>(rows) : 0);
  job.codes = outputs.codes;
  job.scales = outputs.scales;
  job.zero_points = outputs.zero_points;
  job.statistics = outputs.statistics;
  EXPECT_TRUE(quantizer.Quantize(job).ok());
  return outputs;
}

// Compared as bytes: sums of squares may be infinite.
void ExpectEqual(const Outputs& actual, const Outputs& expected) {
  EXPECT_EQ(actual.codes, expected.codes);
  EXPECT_EQ(actual.scales, expected.scales);
  EXPECT_EQ(actual.zero_points, expected.zero_points);
  ASSERT_EQ(actual.statistics.size(), expected.statistics.size());
  for (std::size_t row = 0; row < actual.statistics.size(); ++row) {
    const RowStatistics& a = actual.statistics[row];
    const RowStatistics& e = expected.statistics[row];
    EXPECT_EQ(std::bit_cast<std::uint64_t>(a.squared_error), std::bit_cast<std::uint64_t>(e.squared_error)) << row;
    EXPECT_EQ(std::bit_cast<std::uint64_t>(a.squared_value), std::bit_cast<std::uint64_t>(e.squared_value)) << row;
    EXPECT_EQ(a.amax, e.amax) << row;
    EXPECT_EQ(a.largest_error, e.largest_error) << row;
    EXPECT_EQ(a.saturated, e.saturated) << row;
    EXPECT_EQ(a.zeros, e.zeros) << row;
  }
}

constexpr Coding With(Coding coding, Packing packing) {
  coding.packing = packing;
  return coding;
}

constexpr Coding kMxfp4Rounded{.element = Element::kE2M1,
                               .sharing = Sharing::kGroup,
                               .group = 32,
                               .rule = ScaleRule::kPowerOfTwoRounded,
                               .bound = 6,
                               .scale_dtype = DType::kU8,
                               .packing = Packing::kNibblePairs};
constexpr Coding kFp8Halves{.sharing = Sharing::kSquare, .group = 64, .scale_dtype = DType::kBF16};
constexpr Coding kInt4Wide{.element = Element::kInt4, .sharing = Sharing::kGroup, .group = 192, .bound = 7.5};
constexpr Coding kInt4Odd{.element = Element::kInt4, .sharing = Sharing::kGroup, .group = 24, .bound = 7.5};

constexpr Coding kInt4RangeHalves{.element = Element::kInt4,
                                  .sharing = Sharing::kGroup,
                                  .group = 32,
                                  .rule = ScaleRule::kRangeRounded,
                                  .bound = 15,
                                  .scale_dtype = DType::kF16};

struct Case {
  Coding coding;
  std::int64_t rows;
  std::int64_t columns;
};

// Every packing, rule and way to share, with ends that fill no vector, word or chunk where the coding has such; rows
// that are longer than a tile.
const std::vector<Case>& Cases() {
  static const std::vector<Case> cases = {
      {kFp8Tensor, 5, 77},
      {kFp8Tensor, 3, 1300},
      {With(kFp8Tensor, Packing::kBytes), 1, 1},
      {kFp8Row, 5, 1100},
      {Searched(kFp8Row), 3, 1234},
      {kFp8Square, 130, 140},
      {kFp8Square, 200, 1200},
      {Searched(kFp8Square), 130, 271},
      {kFp8Halves, 70, 100},
      {kMxfp8, 3, 2048 + 96},
      {kInt8Row, 4, 1033},
      {Searched(kInt8Row), 4, 1033},
      {With(kInt8Row, Packing::kWords), 5, 67},
      {kInt4Rows, 6, 1152},
      {Searched(kInt4Rows), 4, 256},
      {kInt4Words, 5, 256},
      {With(kInt4Wide, Packing::kWords), 3, 1152},
      {Searched(With(kInt4Wide, Packing::kNibblePairs)), 3, 1152},
      {kInt4Odd, 3, 72},
      {With({.element = Element::kInt4, .sharing = Sharing::kRow, .bound = 7}, Packing::kWords), 5, 67},
      {kAwq, 136, 160},
      {Searched(kAwq), 16, 64},
      {kGptq, 19, 160},
      {Searched(kGptq), 5, 64},
      {kAwqRange, 136, 160},
      {Searched(kAwqRange), 16, 64},
      {kInt4Range, 5, 1152},
      {Searched(kInt4Range), 3, 1152},
      {kInt4RangeHalves, 3, 384},
      {With(
           {.element = Element::kInt4, .sharing = Sharing::kGroup, .group = 24, .rule = ScaleRule::kRange, .bound = 15},
           Packing::kBytes),
       3, 72},
      {kNvfp4, 7, 1616},
      {Searched(kNvfp4), 7, 336},
      {kNvfp4Reciprocal, 7, 1616},
      {Searched(kNvfp4Reciprocal), 7, 336},
      {kMxfp4, 7, 1056},
      {Searched(kMxfp4), 7, 352},
      {kMxfp4Rounded, 7, 1056},
      {Searched(kMxfp4Rounded), 7, 352},
  };
  return cases;
}

class SimdTest : public testing::TestWithParam<std::tuple<DType, Kind>> {
 protected:
  [[nodiscard]] Band BandOf(std::int64_t rows, std::int64_t columns) const {
    return {std::get<0>(GetParam()), std::get<1>(GetParam()), rows, columns};
  }
  const std::unique_ptr<Quantizer> simd_ = engine::MakeSimdQuantizer();
  const std::unique_ptr<Quantizer> reference_ = engine::MakeReferenceQuantizer();
};

TEST_P(SimdTest, CodesScalesAndStatisticsAreTheReferences) {
  for (std::size_t i = 0; i < Cases().size(); ++i) {
    const auto& [coding, rows, columns] = Cases()[i];
    SCOPED_TRACE(i);
    ASSERT_TRUE(CanCode(coding, rows, columns));
    const Band band = BandOf(rows, columns);
    const QuantizeJob job = JobOf(coding, band.values(), TensorScale(coding, reference_->Measure(band.values())->amax));
    const Outputs expected = Quantize(*reference_, job);
    UnderEachInstructionSet([&] { ExpectEqual(Quantize(*simd_, job), expected); });
  }
}

TEST_P(SimdTest, GivenRangesMakeTheScales) {
  for (const auto& [coding, rows, columns] : Cases()) {
    const Band band = BandOf(rows, columns);
    std::vector<float> amaxes(static_cast<std::size_t>(ScaleCount(coding, rows, columns)));
    for (std::size_t i = 0; i < amaxes.size(); ++i) {
      amaxes[i] = i % 5 == 0 ? 0.0F : std::ldexp(1.0F + static_cast<float>(i % 31) / 32, static_cast<int>(i % 40) - 20);
    }
    QuantizeJob job = JobOf(coding, band.values(), 0.37F);
    job.amaxes = amaxes;
    ExpectEqual(Quantize(*simd_, job), Quantize(*reference_, job));
  }
}

TEST_P(SimdTest, EachOutputIsTheSameAlone) {
  for (const auto& [coding, rows, columns] : Cases()) {
    const Band band = BandOf(rows, columns);
    const QuantizeJob job = JobOf(coding, band.values(), 0.01F);
    const Outputs all = Quantize(*simd_, job);
    const Wanted codes{.scales = false, .statistics = false};
    ExpectEqual(Quantize(*simd_, job, codes), {.codes = all.codes, .scales = {}, .zero_points = {}, .statistics = {}});
    const Wanted scales{.codes = false, .statistics = false};
    ExpectEqual(Quantize(*simd_, job, scales),
                {.codes = {}, .scales = all.scales, .zero_points = all.zero_points, .statistics = {}});
    const Wanted statistics{.codes = false, .scales = false};
    ExpectEqual(Quantize(*simd_, job, statistics),
                {.codes = {}, .scales = {}, .zero_points = {}, .statistics = all.statistics});
  }
}

TEST_P(SimdTest, SquaredErrorsUnderScalesAreTheReferences) {
  const Band band = BandOf(5, 1234);
  const std::vector<float> scales = {1, 0.001F, 3e-5F, 0x1p-126F, 1e30F};
  for (const Element element : {Element::kE4M3, Element::kE2M1, Element::kInt8, Element::kInt4}) {
    const Coding coding{.element = element};
    std::vector<double> expected(5 * scales.size());
    ASSERT_TRUE(reference_->SquaredErrors(coding, band.values(), scales, expected).ok());
    UnderEachInstructionSet([&] {
      std::vector<double> errors(expected.size(), -1);
      ASSERT_TRUE(simd_->SquaredErrors(coding, band.values(), scales, errors).ok());
      for (std::size_t i = 0; i < errors.size(); ++i) {
        EXPECT_EQ(std::bit_cast<std::uint64_t>(errors[i]), std::bit_cast<std::uint64_t>(expected[i])) << i;
      }
    });
  }
}

TEST_P(SimdTest, MeasuresTheLargestAndFindsTheFirstThatIsNotFinite) {
  const DType dtype = std::get<0>(GetParam());
  const std::uint32_t infinity = dtype == DType::kF16 ? 0x7C00U : dtype == DType::kBF16 ? 0x7F80U : 0x7F800000U;
  Band band = BandOf(40, 1003);
  for (int round = 0; round < 3; ++round) {
    const engine::Measured expected = *reference_->Measure(band.values());
    EXPECT_EQ(expected.first_bad, round == 0 ? -1 : round == 1 ? 40119 : 17001);
    UnderEachInstructionSet([&] {
      const engine::Measured measured = *simd_->Measure(band.values());
      EXPECT_EQ(measured.amax, expected.amax);
      EXPECT_EQ(measured.first_bad, expected.first_bad);
    });
    band.Set(round == 0 ? 40119 : 17001, round == 0 ? infinity : infinity | 1);
  }
}

INSTANTIATE_TEST_SUITE_P(All, SimdTest,
                         testing::Combine(testing::Values(DType::kBF16, DType::kF16, DType::kF32),
                                          testing::Values(Kind::kWeights, Kind::kAnyBits, Kind::kTies)));

}  // namespace
}  // namespace slipway::test
