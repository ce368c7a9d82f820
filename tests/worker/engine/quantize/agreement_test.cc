// Every Quantizer does what the definition says, to the bit.
#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "tests/worker/engine/quantize/codings.h"
#include "tests/worker/engine/quantize/definition.h"
#include "tests/worker/engine/quantize/expect_same.h"
#include "tests/worker/engine/quantize/implementations.h"
#include "tests/worker/engine/quantize/made_values.h"

namespace slipway::test {
namespace {

using engine::Measured;
using engine::Values;

class Agreement : public QuantizerTest {
 protected:
  DefinitionQuantizer& definition() { return definition_; }

 private:
  DefinitionQuantizer definition_;
};
INSTANTIATE_TEST_SUITE_P(All, Agreement, testing::ValuesIn(Implementations()), NameOf);

constexpr DType kDTypes[] = {DType::kF32, DType::kBF16, DType::kF16};

struct Extent {
  std::int64_t rows;
  std::int64_t columns;
};

Coding With(Coding coding, Packing packing, DType scale_dtype, std::int32_t group) {
  coding.packing = packing;
  coding.scale_dtype = scale_dtype;
  coding.group = group;
  return coding;
}

Coding Rounded(Coding coding) {
  coding.rule = ScaleRule::kPowerOfTwoRounded;
  return coding;
}

// All that formats use, and what is near them.
std::vector<Coding> Codings() {
  std::vector<Coding> codings = {kFp8Tensor,
                                 kFp8Row,
                                 kFp8Square,
                                 With(kFp8Square, Packing::kBytes, DType::kBF16, 32),
                                 kInt8Row,
                                 With(kInt8Row, Packing::kWords, DType::kBF16, 0),
                                 kInt4Rows,
                                 kInt4Words,
                                 With(kInt4Words, Packing::kBytes, DType::kBF16, 64),
                                 With(kInt4Words, Packing::kWords, DType::kF16, 384),
                                 kAwq,
                                 kGptq,
                                 kAwqRange,
                                 With(kAwqRange, Packing::kBytes, DType::kF32, 128),
                                 kInt4Range,
                                 With(kInt4Range, Packing::kWords, DType::kF16, 64),
                                 With(kInt4Range, Packing::kWordsColumns, DType::kF32, 384),
                                 kNvfp4,
                                 kNvfp4Reciprocal,
                                 kMxfp4,
                                 Rounded(kMxfp4),
                                 kMxfp8,
                                 Rounded(kMxfp8)};
  for (std::size_t i = 0, count = codings.size(); i < count; ++i) {
    codings.push_back(Searched(codings[i]));
  }
  return codings;
}

// What a plan would give: of the values.
float TensorScaleOf(engine::Quantizer& quantizer, const Coding& coding, const Values& values) {
  return TensorScale(coding, quantizer.Measure(values)->amax);
}

std::string Describe(std::size_t coding, DType dtype, Kind kind) {
  return "coding " + std::to_string(coding) + ", " + std::string(engine::InfoOf(dtype).safetensors_name) + ", kind " +
         std::to_string(static_cast<int>(kind));
}

TEST_P(Agreement, InEveryCodingForEveryKindOfValues) {
  const std::vector<Coding> codings = Codings();
  for (std::size_t i = 0; i < codings.size(); ++i) {
    for (const DType dtype : kDTypes) {
      for (const Kind kind : kKinds) {
        for (const bool mixed : {false, true}) {
          if (mixed && kind != Kind::kNormal) {
            continue;
          }
          SCOPED_TRACE(Describe(i, dtype, kind));
          const MadeValues made(dtype, 8, 384, kind, mixed);
          ExpectSame(definition(), quantizer(),
                     {.coding = codings[i],
                      .values = made.values(),
                      .tensor_scale = TensorScaleOf(definition(), codings[i], made.values())});
          ASSERT_FALSE(HasFatalFailure());
        }
      }
    }
  }
}

TEST_P(Agreement, InOddShapes) {
  struct Case {
    Coding coding;
    std::vector<Extent> extents;
  };
  Coding words8 = kInt8Row;
  words8.packing = Packing::kWords;
  Coding words4 = words8;
  words4.element = Element::kInt4;
  const std::vector<Case> cases = {
      {kFp8Tensor, {{1, 1}, {3, 7}, {5, 129}, {2, 1000}}},
      {kFp8Row, {{1, 1}, {3, 7}, {5, 129}, {2, 1000}}},
      {kFp8Square, {{1, 1}, {127, 3}, {129, 130}, {200, 300}}},
      {words8, {{1, 1}, {3, 7}, {5, 33}, {7, 100}}},
      {words4, {{1, 1}, {3, 7}, {5, 33}, {7, 100}}},
      {kInt4Rows, {{2, 128}, {6, 640}}},
      {kAwq, {{8, 32}, {24, 96}}},
      {kGptq, {{1, 32}, {3, 96}, {17, 64}}},
      {kAwqRange, {{8, 32}, {24, 96}}},
      {kInt4Range, {{1, 128}, {7, 384}}},
      {kNvfp4, {{1, 16}, {3, 48}, {2, 1040}}},
      {kMxfp8, {{1, 32}, {7, 96}, {2, 1056}}},
  };
  for (const Case& a_case : cases) {
    for (const Extent& extent : a_case.extents) {
      for (const bool searched : {false, true}) {
        SCOPED_TRACE(testing::Message() << extent.rows << " x " << extent.columns << (searched ? ", searched" : ""));
        const MadeValues made(DType::kBF16, extent.rows, extent.columns, Kind::kHeavy);
        const Coding coding = searched ? Searched(a_case.coding) : a_case.coding;
        ExpectSame(definition(), quantizer(),
                   {.coding = coding,
                    .values = made.values(),
                    .tensor_scale = TensorScaleOf(definition(), coding, made.values())});
        ASSERT_FALSE(HasFatalFailure());
      }
    }
  }
}

TEST_P(Agreement, UnderGivenRanges) {
  std::mt19937 random(7);
  const std::vector<Coding> codings = Codings();
  for (std::size_t i = 0; i < codings.size(); ++i) {
    const MadeValues made(DType::kBF16, 16, 384, Kind::kNormal);
    std::vector<float> amaxes(static_cast<std::size_t>(ScaleCount(codings[i], 16, 384)));
    for (float& amax : amaxes) {
      amax = random() % 8 == 0 ? 0.0F : std::ldexp(0.02F, static_cast<int>(random() % 9) - 4);
    }
    SCOPED_TRACE(Describe(i, DType::kBF16, Kind::kNormal));
    ExpectSame(definition(), quantizer(),
               {.coding = codings[i],
                .values = made.values(),
                .tensor_scale = TensorScaleOf(definition(), codings[i], made.values()),
                .amaxes = amaxes});
    ASSERT_FALSE(HasFatalFailure());
  }
}

// As they are where siblings are fused with the tensor, and where a checkpoint brings them.
TEST_P(Agreement, UnderTensorScalesOfAnySize) {
  for (const Coding& coding : {kFp8Tensor, kNvfp4, kNvfp4Reciprocal, Searched(kNvfp4), Searched(kNvfp4Reciprocal)}) {
    for (const float scale : {0x1p-118F, 1e-6F, 3e-5F, 1.0F, 700.0F, 1e9F, 0x1p118F}) {
      SCOPED_TRACE(scale);
      const MadeValues made(DType::kF32, 4, 96, Kind::kNormal, true);
      ExpectSame(definition(), quantizer(), {.coding = coding, .values = made.values(), .tensor_scale = scale});
      ASSERT_FALSE(HasFatalFailure());
    }
  }
}

// So many quotients that some of them would be rounded otherwise in another order of the divisions.
TEST_P(Agreement, OnScalesOfTwoLevelsInManyBlocks) {
  const std::vector<float> zeros(std::size_t{8} * 65536);
  std::vector<float> amaxes(zeros.size() / 16);
  for (std::size_t i = 0; i < amaxes.size(); ++i) {
    amaxes[i] = engine::FloatOf(0x3F000000 + 0x4000 * (static_cast<std::uint32_t>(i) % 2048));
  }
  const Values values{.dtype = DType::kF32, .bytes = std::as_bytes(std::span(zeros)), .rows = 8, .columns = 65536};
  for (const Coding& coding : {kNvfp4, kNvfp4Reciprocal}) {
    for (const float largest : {2.40625F, 1.109375F, 119.0F}) {
      ExpectSame(definition(), quantizer(),
                 {.coding = coding, .values = values, .tensor_scale = TensorScale(coding, largest), .amaxes = amaxes},
                 kScales);
      ASSERT_FALSE(HasFatalFailure());
    }
  }
}

TEST_P(Agreement, OnWhateverOutputsAreWanted) {
  const std::vector<Coding> codings = Codings();
  for (std::size_t i = 0; i < codings.size(); ++i) {
    const MadeValues made(DType::kBF16, 8, 384, Kind::kNormal);
    for (int outputs = 0; outputs < kAllOutputs; ++outputs) {
      SCOPED_TRACE(testing::Message() << "coding " << i << ", outputs " << outputs);
      ExpectSame(definition(), quantizer(), {.coding = codings[i], .values = made.values(), .tensor_scale = 1e-4F},
                 outputs);
      ASSERT_FALSE(HasFatalFailure());
    }
  }
}

TEST_P(Agreement, OnSquaredErrorsUnderManyScales) {
  std::vector<float> scales;
  scales.reserve(19);
  for (int i = 0; i < 19; ++i) {
    scales.push_back(std::ldexp(1.0F + 0.1F * static_cast<float>(i % 7), i / 2 - 14));
  }
  for (const Element element : {Element::kE4M3, Element::kE2M1, Element::kInt8, Element::kInt4}) {
    for (const DType dtype : kDTypes) {
      for (const Extent extent : {Extent{3, 384}, Extent{2, 7}, Extent{1, 301}}) {
        const MadeValues made(dtype, extent.rows, extent.columns, Kind::kNormal, extent.rows == 3);
        Coding coding = kFp8Tensor;
        coding.element = element;
        std::vector<double> expected(static_cast<std::size_t>(extent.rows) * scales.size());
        std::vector<double> actual(expected.size(), -1);
        ASSERT_TRUE(definition().SquaredErrors(coding, made.values(), scales, expected).ok());
        ASSERT_TRUE(quantizer().SquaredErrors(coding, made.values(), scales, actual).ok());
        ASSERT_EQ(expected, actual);
      }
    }
  }
}

TEST_P(Agreement, OnTheLargestMagnitudeAndTheFirstValueThatIsNotFinite) {
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const DType dtype : kDTypes) {
    for (const Kind kind : kKinds) {
      for (const Extent extent : {Extent{1, 1}, Extent{3, 7}, Extent{5, 129}, Extent{8, 384}}) {
        const MadeValues made(dtype, extent.rows, extent.columns, kind);
        const Measured measured = *quantizer().Measure(made.values());
        EXPECT_EQ(measured.first_bad, -1);
        EXPECT_EQ(measured.amax, definition().Measure(made.values())->amax);
      }
    }
    for (const std::int64_t position : {0, 1, 130, 383, 384, 1000, 3071}) {
      MadeValues made(dtype, 8, 384, Kind::kNormal);
      made.Set(position, position % 2 == 0 ? kNaN : -kInfinity);
      made.Set(3071, kInfinity);
      const Measured measured = *quantizer().Measure(made.values());
      EXPECT_EQ(measured.first_bad, position);
      EXPECT_EQ(measured.amax, definition().Measure(made.values())->amax);
    }
  }
}

}  // namespace
}  // namespace slipway::test
