#include "worker/engine/quantize/scales.h"

#include <gtest/gtest.h>

#include <array>
#include <cfloat>
#include <cmath>

#include "tests/worker/engine/quantize/codings.h"
#include "worker/engine/quantize/quantizer.h"

namespace slipway::test {
namespace {

using engine::EffectiveScale;
using engine::RuleScale;

Coding Rounded(Coding coding) {
  coding.rule = ScaleRule::kPowerOfTwoRounded;
  return coding;
}

// The table of the format: amax, and the exponents of MXFP4 and MXFP8 as Model Optimizer and compressed-tensors have
// them.
TEST(Scales, OfPowersOfTwoAreThoseOfTheTable) {
  struct Row {
    float amax;
    std::uint32_t mxfp4;
    std::uint32_t mxfp4_rounded;
    std::uint32_t mxfp8;
    std::uint32_t mxfp8_rounded;
  };
  for (const Row& row : {Row{6, 127, 127, 121, 121}, Row{6.5, 128, 127, 121, 121}, Row{7, 128, 128, 121, 122},
                         Row{3.5, 127, 127, 120, 121}, Row{3.6F, 127, 127, 121, 121}, Row{448, 134, 134, 127, 128}}) {
    EXPECT_EQ(RuleScale(kMxfp4, row.amax, 1), row.mxfp4) << row.amax;
    EXPECT_EQ(RuleScale(Rounded(kMxfp4), row.amax, 1), row.mxfp4_rounded) << row.amax;
    EXPECT_EQ(RuleScale(kMxfp8, row.amax, 1), row.mxfp8) << row.amax;
    EXPECT_EQ(RuleScale(Rounded(kMxfp8), row.amax, 1), row.mxfp8_rounded) << row.amax;
  }
}

// One place above a bound, nothing may saturate; at the bound and below, nothing may be coarser than it must.
TEST(Scales, OfPowersOfTwoAreExactAtEveryBound) {
  for (const Coding& coding : {kMxfp4, kMxfp8}) {
    for (int exponent = -127; exponent <= 127; ++exponent) {
      const float bound = std::ldexp(coding.bound, exponent);
      if (!std::isfinite(bound)) {
        break;
      }
      const auto code = static_cast<std::uint32_t>(exponent + 127);
      EXPECT_EQ(RuleScale(coding, bound, 1), code);
      EXPECT_EQ(RuleScale(coding, std::nextafter(bound, 0.0F), 1), code);
      EXPECT_EQ(RuleScale(coding, std::nextafter(bound, INFINITY), 1), code + 1);
    }
  }
}

TEST(Scales, OfPowersOfTwoStayWithinE8M0) {
  for (const Coding& coding : {kMxfp4, kMxfp8, Rounded(kMxfp4), Rounded(kMxfp8)}) {
    for (const float amax : {0.0F, 0x1p-149F, 0x1p-130F, FLT_MIN}) {
      EXPECT_EQ(RuleScale(coding, amax, 1), 0) << amax;
    }
    EXPECT_LE(RuleScale(coding, FLT_MAX, 1), 254);
  }
}

TEST(Scales, OfZerosAreOne) {
  EXPECT_EQ(EffectiveScale(kFp8Row, RuleScale(kFp8Row, 0, 1), 1), 1);
  EXPECT_EQ(RuleScale(kInt4Words, 0, 1), 0x3F80);
  EXPECT_EQ(RuleScale(kAwq, 0, 1), 0x3C00);
  EXPECT_EQ(RuleScale(kNvfp4, 0, 0.25), 0x38);
  EXPECT_EQ(RuleScale(kNvfp4Reciprocal, 0, 0.25), 0x20);
  for (const Coding& coding : {kFp8Tensor, kNvfp4, kNvfp4Reciprocal}) {
    EXPECT_EQ(TensorScale(coding, 0), 1);
  }
}

// Whatever the largest magnitude, the scale is a positive number and a value over it is one, too.
TEST(Scales, AreNeverZeroNorInfinite) {
  Coding half = kFp8Row;
  half.scale_dtype = DType::kF16;
  Coding brain = kInt8Row;
  brain.scale_dtype = DType::kBF16;
  for (const Coding& coding : {kFp8Tensor, kFp8Row, half, brain, kInt8Row, kInt4Words, kAwq, kNvfp4, kNvfp4Reciprocal,
                               kMxfp4, kMxfp8, Rounded(kMxfp4), Rounded(kMxfp8)}) {
    for (int exponent = -149; exponent < 128; ++exponent) {
      for (const float amax : {std::ldexp(1.0F, exponent), std::ldexp(1.999999F, exponent), FLT_MAX}) {
        for (const float largest : {amax, FLT_MAX}) {  // of the block, and of the tensor
          const float tensor_scale = TensorScale(coding, largest);
          ASSERT_TRUE(std::isfinite(tensor_scale) && tensor_scale > 0) << amax;
          for (const float factor : {1.0F, 0.5F, 2.0F}) {
            const int step = factor == 1 ? 0 : factor < 1 ? -9 : 9;
            const float scale =
                EffectiveScale(coding, NeighbourScale(coding, amax, tensor_scale, factor, step), tensor_scale);
            ASSERT_TRUE(std::isfinite(scale) && scale > 0) << amax << " " << factor;
            ASSERT_FALSE(std::isnan(amax / scale));
          }
        }
      }
    }
  }
}

TEST(Scales, OfTensorsAreThoseOfTheFormats) {
  EXPECT_EQ(TensorScale(kFp8Tensor, 3.5), 0.0078125F);
  EXPECT_EQ(engine::BitsOf(TensorScale(kNvfp4, 1.5)), 0x3A124925);
  EXPECT_EQ(TensorScale(Searched(kNvfp4), 1.5), 1.5F / (6 * 256));
  EXPECT_EQ(TensorScale(kNvfp4Reciprocal, 1.5), 2688 / 1.5F);
  EXPECT_EQ(TensorScale(Searched(kNvfp4Reciprocal), 1.5), 1536 / 1.5F);
  Coding brain = kFp8Tensor;
  brain.scale_dtype = DType::kBF16;
  EXPECT_EQ(TensorScale(brain, 1), engine::FromBFloat16(engine::ToBFloat16(1.0F / 448)));
}

TEST(Scales, SizesAreThoseOfTheLayouts) {
  EXPECT_EQ(ScaleCount(kFp8Tensor, 5, 7), 0);
  EXPECT_EQ(ScaleCount(kFp8Row, 5, 7), 5);
  EXPECT_EQ(ScaleCount(kFp8Square, 200, 300), 6);
  EXPECT_EQ(ScaleCount(kNvfp4, 4096, 4096), 4096 * 256);
  EXPECT_EQ(CodeBytes(kFp8Row, 5, 7), 35);
  EXPECT_EQ(CodeBytes(kNvfp4, 3, 32), 48);
  EXPECT_EQ(CodeBytes(kInt4Rows, 4, 128), 256);
  EXPECT_EQ(CodeBytes(kAwq, 8, 32), 128);
  EXPECT_EQ(CodeBytes(kGptq, 3, 32), 48);
  Coding words = kInt8Row;
  words.packing = Packing::kWords;
  EXPECT_EQ(CodeBytes(words, 5, 33), 5 * 9 * 4);
  words.element = Element::kInt4;
  EXPECT_EQ(CodeBytes(words, 5, 33), 5 * 5 * 4);
}

TEST(Scales, WhatCannotBeCodedIsSaidSo) {
  EXPECT_TRUE(CanCode(kNvfp4, 1, 16));
  EXPECT_FALSE(CanCode(kNvfp4, 1, 24));      // half a group
  EXPECT_FALSE(CanCode(kNvfp4, 0, 16));      // nothing
  EXPECT_FALSE(CanCode(kInt4Rows, 3, 128));  // half a pair of rows
  EXPECT_FALSE(CanCode(kAwq, 12, 32));       // half a word
  EXPECT_FALSE(CanCode(kFp8Row, 1LL << 40, 1LL << 40));
  Coding coding = kFp8Row;
  coding.packing = Packing::kNibblePairs;  // eight bits into four
  EXPECT_FALSE(CanCode(coding, 2, 128));
  coding = kGptq;
  coding.group = 20;  // a word across the end
  EXPECT_FALSE(CanCode(coding, 8, 20));
  coding = kMxfp8;
  coding.scale_dtype = DType::kF32;  // not what the rule makes
  EXPECT_FALSE(CanCode(coding, 1, 32));
  coding = kNvfp4;
  coding.group = 0;
  EXPECT_FALSE(CanCode(coding, 1, 16));
  coding = kFp8Row;
  coding.bound = NAN;
  EXPECT_FALSE(CanCode(coding, 1, 16));
}

}  // namespace
}  // namespace slipway::test
