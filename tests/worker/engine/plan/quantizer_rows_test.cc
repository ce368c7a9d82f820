#include "worker/engine/plan/quantizer_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "common/error.h"

namespace slipway::engine {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A tensor whose pieces begin at these rows.
StoredTensor Cut(std::string name, const Shape& shape, const std::vector<std::int64_t>& begins) {
  StoredTensor tensor{.name = std::move(name), .dtype = DType::kF32, .shape = shape, .pieces = {}};
  for (std::size_t i = 0; i < begins.size(); ++i) {
    Piece piece;
    piece.offsets = Shape(shape.size(), 0);
    piece.sizes = shape;
    piece.offsets[0] = begins[i];
    piece.sizes[0] = (i + 1 < begins.size() ? begins[i + 1] : shape[0]) - begins[i];
    tensor.pieces.push_back(std::move(piece));
  }
  return tensor;
}

CanonicalTensor Whole(const Checkpoint& checkpoint, const std::string& name, const std::vector<std::int32_t>& stored) {
  CanonicalTensor tensor{.name = name, .dtype = DType::kF32, .shape = {}, .parts = {}};
  for (const std::int32_t index : stored) {
    const Shape& shape = checkpoint.tensors[static_cast<std::size_t>(index)].shape;
    if (tensor.shape.empty()) {
      tensor.shape = shape;
    } else {
      tensor.shape[0] += shape[0];
    }
    tensor.parts.emplace_back().stored = index;
  }
  return tensor;
}

// Rows of the stored amaxes, in order.
std::vector<std::int64_t> RowsIn(const StoredAmaxes& amaxes) {
  std::vector<std::int64_t> rows;
  for (const SourceRegion& region : amaxes.regions) {
    for (std::int64_t row = 0; row < region.sizes[0]; ++row) {
      rows.push_back(region.offsets[0] + row);
    }
  }
  return rows;
}

// Amaxes of a fc1 of 4 gates and 4 ups, of `ranks` ranks: [g0; u0; g1; u1; ...].
struct FirstLinear {
  explicit FirstLinear(const std::vector<std::int64_t>& amax_begins, const std::vector<std::int64_t>& half_begins) {
    checkpoint.tensors = {Cut("amax", {8, 1}, amax_begins), Cut("weight_w", {4, 6}, half_begins),
                          Cut("weight_v", {4, 6}, half_begins)};
  }
  absl::StatusOr<StoredAmaxes> Get(std::int64_t begin) {
    return AmaxesOf(Whole(checkpoint, "amax", {0}), Whole(checkpoint, "mlp.linear_fc1.weight", {1, 2}), {},
                    /*gated=*/true, {{begin, 4}}, checkpoint);
  }
  Checkpoint checkpoint;
};

TEST(QuantizerRows, OfOneRankGateAndUpFollowEachOther) {
  FirstLinear linear({0}, {0});
  EXPECT_THAT(RowsIn(*linear.Get(0)), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(RowsIn(*linear.Get(4)), ElementsAre(4, 5, 6, 7));
}

TEST(QuantizerRows, OfSeveralRanksGatesAndUpsAreGathered) {
  FirstLinear two({0, 4}, {0, 2});
  EXPECT_THAT(RowsIn(*two.Get(0)), ElementsAre(0, 1, 4, 5));
  EXPECT_THAT(RowsIn(*two.Get(4)), ElementsAre(2, 3, 6, 7));
  FirstLinear four({0, 2, 4, 6}, {0, 1, 2, 3});
  EXPECT_THAT(RowsIn(*four.Get(0)), ElementsAre(0, 2, 4, 6));
  EXPECT_THAT(RowsIn(*four.Get(4)), ElementsAre(1, 3, 5, 7));
  const auto all = AmaxesOf(Whole(two.checkpoint, "amax", {0}), Whole(two.checkpoint, "w", {1, 2}), {}, true, {{0, 8}},
                            two.checkpoint);
  EXPECT_THAT(RowsIn(*all), ElementsAre(0, 1, 4, 5, 2, 3, 6, 7));
  EXPECT_EQ(all->rows, 8);
  EXPECT_EQ(all->columns, 1);
}

TEST(QuantizerRows, WhereRanksCannotBeToldTheOrderIsNotGuessed) {
  for (const auto& [amaxes, halves] : std::vector<std::pair<std::vector<std::int64_t>, std::vector<std::int64_t>>>{
           {{0}, {0, 2}}, {{0, 4}, {0}}, {{0, 4}, {0, 1}}, {{0, 3}, {0, 2}}, {{0, 2, 4, 6}, {0, 2}}}) {
    const auto rows = FirstLinear(amaxes, halves).Get(0);
    EXPECT_EQ(ReasonOf(rows.status()), Reason::kCheckpointUnsupported);
    EXPECT_EQ(WhereOf(rows.status()).tensor, "amax");
  }
}

TEST(QuantizerRows, AGatedWeightInOneTensorIsCutAlike) {
  Checkpoint checkpoint;
  checkpoint.tensors = {Cut("amax", {8, 1}, {0, 4}), Cut("weight", {8, 6}, {0, 2, 4, 6})};
  const auto up =
      AmaxesOf(Whole(checkpoint, "amax", {0}), Whole(checkpoint, "weight", {1}), {}, true, {{4, 4}}, checkpoint);
  ASSERT_TRUE(up.ok()) << Describe(up.status());
  EXPECT_THAT(RowsIn(*up), ElementsAre(2, 3, 6, 7));
}

TEST(QuantizerRows, OtherWeightsHaveTheirOwnOrderWhateverTheRanks) {
  Checkpoint checkpoint;
  checkpoint.tensors = {Cut("amax", {8, 3}, {0, 4}), Cut("weight", {8, 6}, {0, 4})};
  const auto rows = AmaxesOf(Whole(checkpoint, "amax", {0}), Whole(checkpoint, "weight", {1}), {.columns = 2}, false,
                             {{5, 2}, {0, 1}}, checkpoint);
  ASSERT_TRUE(rows.ok()) << Describe(rows.status());
  EXPECT_THAT(RowsIn(*rows), ElementsAre(5, 6, 0));
  EXPECT_EQ(rows->columns, 3);
}

TEST(QuantizerRows, AWeightThatWasPutTogetherOfManyPartsIsReadOfOneRankOnly) {
  Checkpoint checkpoint;
  checkpoint.tensors = {Cut("amax", {9, 1}, {0}), Cut("cut", {9, 1}, {0, 3}), Cut("z", {3, 6}, {0}),
                        Cut("x", {3, 6}, {0}), Cut("dt", {3, 6}, {0})};
  const CanonicalTensor weight = Whole(checkpoint, "in_proj.weight", {2, 3, 4});
  EXPECT_THAT(RowsIn(*AmaxesOf(Whole(checkpoint, "amax", {0}), weight, {}, false, {{3, 3}}, checkpoint)),
              ElementsAre(3, 4, 5));
  EXPECT_EQ(ReasonOf(AmaxesOf(Whole(checkpoint, "cut", {1}), weight, {}, false, {{3, 3}}, checkpoint).status()),
            Reason::kCheckpointUnsupported);
}

TEST(QuantizerRows, SquaresGoWithTheRowsThatTheyCover) {
  Checkpoint checkpoint;
  checkpoint.tensors = {Cut("amax", {3, 2}, {0}), Cut("weight", {10, 7}, {0})};
  const auto get = [&](RowRange rows) {
    return AmaxesOf(Whole(checkpoint, "amax", {0}), Whole(checkpoint, "weight", {1}), {.rows = 4, .columns = 4}, false,
                    {rows}, checkpoint);
  };
  EXPECT_THAT(RowsIn(*get({4, 6})), ElementsAre(1, 2));  // to the lower edge, which is ragged
  EXPECT_THAT(RowsIn(*get({0, 4})), ElementsAre(0));
  const absl::Status cut = get({2, 4}).status();
  EXPECT_EQ(ReasonOf(cut), Reason::kCheckpointUnsupported);
  EXPECT_THAT(std::string(cut.message()), HasSubstr("blocks of 4 rows"));
}

TEST(QuantizerRows, AnotherShapeIsRefused) {
  Checkpoint checkpoint;
  checkpoint.tensors = {Cut("amax", {8, 2}, {0}), Cut("weight", {8, 6}, {0}), Cut("vector", {8}, {0})};
  const auto get = [&](std::int32_t amax, std::int32_t weight, AmaxBlock block) {
    return ReasonOf(AmaxesOf(Whole(checkpoint, "amax", {amax}), Whole(checkpoint, "weight", {weight}), block, false,
                             {{0, 8}}, checkpoint)
                        .status());
  };
  EXPECT_EQ(get(0, 1, {}), Reason::kTensorShapeMismatch);              // one a row
  EXPECT_EQ(get(0, 1, {.columns = 2}), Reason::kTensorShapeMismatch);  // three a row
  EXPECT_EQ(get(0, 1, {.rows = 2}), Reason::kTensorShapeMismatch);     // half the rows
  EXPECT_EQ(get(0, 2, {.columns = 3}), Reason::kTensorShapeMismatch);  // of a vector
  EXPECT_EQ(get(2, 1, {.columns = 3}), Reason::kTensorShapeMismatch);  // no axis for blocks
  EXPECT_EQ(get(2, 1, {}), Reason::kUnspecified);
  EXPECT_EQ(get(0, 1, {.columns = 3}), Reason::kUnspecified);
}

}  // namespace
}  // namespace slipway::engine
