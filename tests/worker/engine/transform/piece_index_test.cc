#include "worker/engine/transform/piece_index.h"

#include <array>
#include <utility>

#include <gtest/gtest.h>

namespace slipway::engine {
namespace {

Piece At(Shape offsets, Shape sizes) {
  Piece piece;
  piece.offsets = std::move(offsets);
  piece.sizes = std::move(sizes);
  return piece;
}

// Every element of a matrix is found in the one piece that has it, by looking at all of them.
void ExpectAllFound(const StoredTensor& tensor) {
  const PieceIndex index(tensor);
  for (std::int64_t row = 0; row < tensor.shape[0]; ++row) {
    for (std::int64_t column = 0; column < tensor.shape[1]; ++column) {
      std::int32_t expected = -1;
      for (std::size_t i = 0; i < tensor.pieces.size(); ++i) {
        const Piece& piece = tensor.pieces[i];
        if (row >= piece.offsets[0] && row < piece.offsets[0] + piece.sizes[0] && column >= piece.offsets[1] &&
            column < piece.offsets[1] + piece.sizes[1]) {
          expected = static_cast<std::int32_t>(i);
        }
      }
      const std::array element{row, column};
      ASSERT_EQ(index.Find(element), expected) << row << ", " << column;
    }
  }
}

TEST(PieceIndex, FindsElementsInAGridOfUnevenPieces) {
  ExpectAllFound({.name = "grid",
                  .dtype = DType::kBF16,
                  .shape = {5, 7},
                  .pieces = {At({0, 0}, {2, 3}), At({0, 3}, {2, 4}), At({2, 0}, {3, 3}), At({2, 3}, {3, 4})}});
}

TEST(PieceIndex, FindsElementsInPiecesThatAreNoGrid) {
  // A pinwheel: no cut goes through, and the piece that begins last before an element need not have it.
  ExpectAllFound(
      {.name = "pinwheel",
       .dtype = DType::kBF16,
       .shape = {3, 3},
       .pieces = {At({0, 0}, {1, 2}), At({0, 2}, {2, 1}), At({1, 0}, {2, 1}), At({1, 1}, {1, 1}), At({2, 1}, {1, 2})}});
}

TEST(PieceIndex, AnElementThatNoPieceHasIsNotFound) {
  const StoredTensor tensor{.name = "hole", .dtype = DType::kBF16, .shape = {4, 2}, .pieces = {At({1, 0}, {2, 2})}};
  ExpectAllFound(tensor);
}

TEST(PieceIndex, AScalarHasOnePiece) {
  const StoredTensor tensor{.name = "scalar", .dtype = DType::kF32, .shape = {}, .pieces = {At({}, {})}};
  EXPECT_EQ(PieceIndex(tensor).Find({}), 0);
}

}  // namespace
}  // namespace slipway::engine
