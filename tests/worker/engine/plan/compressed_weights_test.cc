// What scales belong to a compressed weight; tests/e2e/test_calibrated.py exports whole checkpoints of them.
#include "worker/engine/plan/compressed_weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/error.h"

namespace slipway::engine {
namespace {

using testing::HasSubstr;

const std::string kWeight = "decoder.layers.0.self_attention.linear_qkv.weight";

Checkpoint With(DType codes, const Shape& weight, DType dtype, const Shape& scale) {
  Checkpoint checkpoint;
  const auto piece = [](const Shape& shape) {
    return Piece{.offsets = Shape(shape.size(), 0), .sizes = shape, .strides = {}};
  };
  checkpoint.tensors.push_back({.name = kWeight, .dtype = codes, .shape = weight, .pieces = {piece(weight)}});
  checkpoint.tensors.push_back(
      {.name = kWeight + "_quantizer._scale", .dtype = dtype, .shape = scale, .pieces = {piece(scale)}});
  return checkpoint;
}

absl::StatusOr<BlockScales> ScalesOf(const Checkpoint& checkpoint, const std::vector<RowRange>& rows) {
  SLIPWAY_ASSIGN_OR_RETURN(const auto tensors, Canonicalize(checkpoint));
  SLIPWAY_ASSIGN_OR_RETURN(const CompressedWeights compressed, CompressedWeights::Of(checkpoint, tensors));
  return compressed.ScalesOf(tensors.at(kWeight), rows, {}, checkpoint);
}

TEST(CompressedWeights, OneScaleIsThatOfAllRows) {
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{1, 1}}) {
    const auto scales = ScalesOf(With(DType::kF8E4M3, {12, 32}, DType::kBF16, shape), {{4, 2}});
    ASSERT_TRUE(scales.ok()) << Describe(scales.status());
    ASSERT_EQ(scales->regions.size(), 1U);
    EXPECT_EQ(scales->regions[0].tensor, 1);
    EXPECT_EQ(scales->rows, 12);
    EXPECT_EQ(scales->columns, 32);
    EXPECT_EQ(scales->factor, 1.0F);
  }
}

TEST(CompressedWeights, OneScaleARowGoesWithItsRow) {
  const auto scales = ScalesOf(With(DType::kF8E4M3, {12, 32}, DType::kF32, {12, 1}), {{4, 2}, {10, 1}});
  ASSERT_TRUE(scales.ok()) << Describe(scales.status());
  ASSERT_EQ(scales->regions.size(), 2U);
  EXPECT_EQ(scales->regions[0].offsets, Shape({4, 0}));
  EXPECT_EQ(scales->regions[0].sizes, Shape({2, 1}));
  EXPECT_EQ(scales->regions[1].offsets, Shape({10, 0}));
  EXPECT_EQ(scales->rows, 1);
  EXPECT_EQ(scales->columns, 32);
}

TEST(CompressedWeights, WhatCannotBeReadIsRefusedByName) {
  struct Case {
    Checkpoint checkpoint;
    const char* message;
  };
  Checkpoint bare = With(DType::kF8E4M3, {12, 32}, DType::kF32, {1});
  bare.tensors.pop_back();
  for (const Case& c : {Case{bare, "without the scale that ModelOpt keeps"},
                        Case{With(DType::kF8E4M3, {12, 32}, DType::kF32, {12, 2}), "one, or one a row"},
                        Case{With(DType::kF8E4M3, {12, 32}, DType::kF8E4M3, {1}), "one, or one a row"},
                        Case{With(DType::kU8, {12, 16}, DType::kBF16, {12, 1}), "that are not NVFP4 as"}}) {
    const absl::Status status = ScalesOf(c.checkpoint, {{0, 12}}).status();
    EXPECT_EQ(ReasonOf(status), Reason::kCheckpointUnsupported) << Describe(status);
    EXPECT_EQ(WhereOf(status).tensor, kWeight);
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
  }
  const absl::Status rows = ScalesOf(With(DType::kF8E4M3, {12, 32}, DType::kF32, {6, 1}), {{0, 12}}).status();
  EXPECT_EQ(ReasonOf(rows), Reason::kTensorShapeMismatch) << Describe(rows);
}

}  // namespace
}  // namespace slipway::engine
