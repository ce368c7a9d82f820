// A band that is cut into pieces becomes what it becomes in one.
#include "worker/engine/quantize/cuda/pieces.h"

#include <gtest/gtest.h>

#include "tests/worker/engine/quantize/codings.h"
#include "tests/worker/engine/quantize/made_values.h"
#include "tests/worker/engine/quantize/vectors.h"
#include "worker/engine/quantize/reference.h"

namespace slipway::test {
namespace {

using engine::LayoutOf;
using engine::PieceOf;
using engine::QuantizeJob;
using engine::RowsOfPiece;

// A Quantizer of pieces that fit `capacity`.
class CutQuantizer final : public engine::Quantizer {
 public:
  explicit CutQuantizer(std::int64_t capacity) : capacity_(capacity) {}
  [[nodiscard]] std::string_view name() const override { return "cut"; }
  [[nodiscard]] int pieces() const { return pieces_; }

  absl::Status Quantize(const QuantizeJob& job) override {
    const std::optional<std::int64_t> rows = RowsOfPiece(job, capacity_);
    EXPECT_TRUE(rows.has_value());
    for (std::int64_t first = 0; first < job.values.rows; first += *rows) {
      const QuantizeJob piece = PieceOf(job, first, std::min(*rows, job.values.rows - first));
      EXPECT_LE(LayoutOf(piece, piece.values.rows).size, capacity_);
      EXPECT_TRUE(CanCode(piece.coding, piece.values.rows, piece.values.columns));
      EXPECT_TRUE(reference_->Quantize(piece).ok());
      ++pieces_;
    }
    return absl::OkStatus();
  }
  absl::StatusOr<engine::Measured> Measure(const engine::Values& values) override {
    return reference_->Measure(values);
  }
  absl::Status SquaredErrors(const Coding&, const engine::Values&, std::span<const float>, std::span<double>) override {
    return absl::OkStatus();
  }

 private:
  std::int64_t capacity_;
  int pieces_ = 0;
  std::unique_ptr<engine::Quantizer> reference_ = engine::MakeReferenceQuantizer();
};

TEST(Pieces, GiveWhatTheWholeBandGives) {
  Coding odd_squares = kInt4Rows;
  odd_squares.sharing = Sharing::kSquare;
  odd_squares.group = 3;
  Coding words = kInt4Words;
  words.sharing = Sharing::kRow;
  for (const Coding& coding : {kFp8Tensor, kFp8Row, kFp8Square, kInt8Row, kInt4Rows, kInt4Words, words, kNvfp4, kMxfp8,
                               odd_squares, kInt4Range}) {
    const MadeValues made(DType::kBF16, 300, 128, Kind::kNormal);
    const auto reference = engine::MakeReferenceQuantizer();
    const Quantized whole = Quantize(*reference, coding, made.values());
    CutQuantizer cut(60 << 10);
    const Quantized parts = Quantize(cut, coding, made.values());
    EXPECT_GT(cut.pieces(), 1);
    EXPECT_EQ(parts.codes, whole.codes);
    EXPECT_EQ(parts.scales, whole.scales);
    EXPECT_EQ(parts.zero_points, whole.zero_points);
    EXPECT_EQ(parts.statistics, whole.statistics);
  }
}

TEST(Pieces, HaveTheirGivenRanges) {
  const MadeValues made(DType::kBF16, 300, 128, Kind::kNormal);
  std::vector<float> amaxes;
  amaxes.reserve(300);
  for (int i = 0; i < 300; ++i) {
    amaxes.push_back(0.01F * static_cast<float>(1 + i % 9));
  }
  const auto reference = engine::MakeReferenceQuantizer();
  CutQuantizer cut(20 << 10);
  EXPECT_EQ(Quantize(cut, kFp8Row, made.values(), {.amaxes = amaxes}).scales,
            Quantize(*reference, kFp8Row, made.values(), {.amaxes = amaxes}).scales);
  EXPECT_GT(cut.pieces(), 1);
}

TEST(Pieces, AreNoneWhereARowOfBlocksDoesNotFit) {
  const MadeValues made(DType::kBF16, 256, 128, Kind::kZeros);
  const QuantizeJob squares{.coding = kFp8Square, .values = made.values()};
  EXPECT_FALSE(RowsOfPiece(squares, 16 << 10).has_value());
  EXPECT_EQ(RowsOfPiece(squares, 64 << 10), 128);
  const QuantizeJob columns{.coding = kAwq, .values = made.values()};
  EXPECT_FALSE(RowsOfPiece(columns, 32 << 10).has_value()) << "rows lie side by side";
  EXPECT_EQ(RowsOfPiece(columns, 1 << 20), 256);
}

}  // namespace
}  // namespace slipway::test
