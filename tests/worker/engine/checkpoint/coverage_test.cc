#include "worker/engine/checkpoint/coverage.h"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/error.h"

namespace slipway::engine {
namespace {

Piece At(Shape offsets, Shape sizes) {
  Piece piece;
  piece.offsets = std::move(offsets);
  piece.sizes = std::move(sizes);
  return piece;
}

Reason ReasonOfCovering(Shape shape, std::vector<Piece> pieces) {
  StoredTensor tensor;
  tensor.name = "w";
  tensor.shape = std::move(shape);
  tensor.pieces = std::move(pieces);
  const absl::Status status = CheckCoverage(tensor);
  EXPECT_TRUE(status.ok() || WhereOf(status).tensor == "w");
  return ReasonOf(status);
}

constexpr Reason kFine = Reason::kUnspecified;

TEST(Coverage, GridsAndIrregularTilingsAreFine) {
  EXPECT_EQ(ReasonOfCovering({}, {At({}, {})}), kFine);
  EXPECT_EQ(ReasonOfCovering({0, 4}, {}), kFine);
  EXPECT_EQ(ReasonOfCovering({4}, {At({0}, {1}), At({1}, {3})}), kFine);
  EXPECT_EQ(ReasonOfCovering({2, 2}, {At({0, 0}, {1, 1}), At({0, 1}, {1, 1}), At({1, 0}, {1, 2})}), kFine);
  // A windmill: no axis separates the five.
  EXPECT_EQ(ReasonOfCovering({3, 3}, {At({0, 0}, {1, 2}), At({0, 2}, {2, 1}), At({1, 0}, {2, 1}), At({1, 1}, {1, 1}),
                                      At({2, 1}, {1, 2})}),
            kFine);
}

TEST(Coverage, AGapIsCorrupt) {
  EXPECT_EQ(ReasonOfCovering({4}, {At({0}, {1}), At({2}, {2})}), Reason::kCheckpointCorrupt);
  EXPECT_EQ(ReasonOfCovering({4}, {}), Reason::kCheckpointCorrupt);
}

TEST(Coverage, AnOverlapIsCorruptEvenWhereTheCountsAgree) {
  EXPECT_EQ(ReasonOfCovering({4}, {At({0}, {3}), At({2}, {2})}), Reason::kCheckpointCorrupt);
  EXPECT_EQ(ReasonOfCovering({4}, {At({0}, {2}), At({0}, {2})}), Reason::kCheckpointCorrupt);
  EXPECT_EQ(ReasonOfCovering({2, 2}, {At({0, 0}, {2, 1}), At({1, 0}, {1, 2})}), Reason::kCheckpointCorrupt);
}

TEST(Coverage, ABlockOutsideIsCorrupt) {
  EXPECT_EQ(ReasonOfCovering({4}, {At({2}, {4})}), Reason::kCheckpointCorrupt);
  EXPECT_EQ(ReasonOfCovering({4}, {At({0, 0}, {4, 1})}), Reason::kCheckpointCorrupt);
  EXPECT_EQ(ReasonOfCovering({4}, {At({INT64_MAX}, {INT64_MAX})}), Reason::kCheckpointCorrupt);
}

TEST(Coverage, AnImpossibleSizeIsCorrupt) {
  constexpr std::int64_t kHuge = std::int64_t{1} << 62;
  EXPECT_EQ(ReasonOfCovering({kHuge, kHuge}, {At({0, 0}, {kHuge, kHuge})}), Reason::kCheckpointCorrupt);
  EXPECT_EQ(ReasonOfCovering({kHuge}, {At({0}, {kHuge})}), Reason::kCheckpointCorrupt);  // elements fit, bytes do not
}

TEST(Coverage, AJumbleIsRefusedInBoundedTime) {
  // Two columns of staggered blocks: a true cover, but no axis separates them into layers.
  constexpr std::int64_t kRows = 20'000;
  std::vector<Piece> pieces = {At({0, 0}, {1, 1}), At({0, 1}, {2, 1})};
  for (std::int64_t row = 1; row < kRows; ++row) {
    pieces.push_back(At({row, row % 2 == 0 ? 1 : 0}, {std::min<std::int64_t>(2, kRows - row), 1}));
  }
  EXPECT_EQ(ReasonOfCovering({kRows, 2}, std::move(pieces)), Reason::kLimitExceeded);
}

TEST(Coverage, PiecesWithoutElementsHideNoOverlap) {
  EXPECT_EQ(ReasonOfCovering({4}, {At({0}, {0}), At({0}, {4}), At({4}, {0})}), kFine);
  EXPECT_EQ(ReasonOfCovering({4}, {At({0}, {0}), At({0}, {2}), At({1}, {2})}), Reason::kCheckpointCorrupt);
}

}  // namespace
}  // namespace slipway::engine
