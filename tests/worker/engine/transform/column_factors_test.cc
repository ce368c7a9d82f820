#include "worker/engine/transform/column_factors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>
#include <vector>

namespace slipway::engine {
namespace {

std::vector<float> Made(std::size_t count) {
  std::mt19937 random(5);
  std::uniform_real_distribution<float> uniform(-2, 2);
  std::vector<float> values(count);
  for (float& value : values) {
    value = uniform(random);
  }
  return values;
}

OutputTensor Tensor(const Shape& shape, const std::vector<float>& factors) {
  OutputTensor tensor;
  tensor.shape = shape;
  tensor.transform = {.add_one = false, .from = DType::kF32, .to = DType::kF32};
  tensor.column_factors = std::make_shared<const std::vector<float>>(factors);
  return tensor;
}

// Scales `values` as an output in pieces of `step` elements.
std::vector<float> InPieces(const OutputTensor& tensor, std::vector<float> values, std::size_t step) {
  for (std::size_t first = 0; first < values.size(); first += step) {
    ScaleColumns(tensor, static_cast<std::int64_t>(first),
                 std::as_writable_bytes(std::span(values).subspan(first, std::min(step, values.size() - first))));
  }
  return values;
}

TEST(ColumnFactors, EachElementOfAVectorHasItsOwn) {
  const std::vector<float> values = Made(3000);
  const std::vector<float> factors = Made(3000);
  const OutputTensor tensor = Tensor({3000}, factors);
  ASSERT_TRUE(CanScaleColumns(tensor));
  const std::vector<float> scaled = InPieces(tensor, values, 701);
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(scaled[i], values[i] * factors[i]) << i;
  }
}

TEST(ColumnFactors, EachColumnOfAMatrixHasItsOwnWhereverAPieceBegins) {
  const std::vector<float> values = Made(std::size_t{7} * 1300);
  const std::vector<float> factors = Made(1300);
  const OutputTensor tensor = Tensor({7, 1300}, factors);
  ASSERT_TRUE(CanScaleColumns(tensor));
  for (const std::size_t step : {std::size_t{1}, std::size_t{999}, std::size_t{4000}, values.size()}) {
    const std::vector<float> scaled = InPieces(tensor, values, step);
    for (std::size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(scaled[i], values[i] * factors[i % 1300]) << i << ", pieces of " << step;
    }
  }
}

// As weights are read whose codes are packed along columns.
TEST(ColumnFactors, OfStripsAreThoseOfTheColumnsThatTheyHold) {
  constexpr std::size_t kRows = 5;
  constexpr std::size_t kStrips = 3;
  constexpr std::size_t kWidth = 32;
  const std::vector<float> values = Made(kRows * kStrips * kWidth);
  const std::vector<float> factors = Made(kStrips * kWidth);
  OutputTensor tensor = Tensor({kRows, kStrips * kWidth}, factors);
  tensor.permutation = {.view = {kRows, kStrips, kWidth}, .order = {1, 0, 2}};
  ASSERT_TRUE(CanScaleColumns(tensor));
  for (const std::size_t step : {std::size_t{7}, std::size_t{160}, values.size()}) {
    const std::vector<float> scaled = InPieces(tensor, values, step);
    std::size_t i = 0;
    for (std::size_t strip = 0; strip < kStrips; ++strip) {
      for (std::size_t row = 0; row < kRows; ++row) {
        for (std::size_t column = 0; column < kWidth; ++column, ++i) {
          ASSERT_EQ(scaled[i], values[i] * factors[strip * kWidth + column]) << i << ", pieces of " << step;
        }
      }
    }
  }
}

TEST(ColumnFactors, RowsInAnotherOrderKeepTheirColumns) {
  const std::vector<float> values = Made(std::size_t{6} * 8);
  const std::vector<float> factors = Made(8);
  OutputTensor tensor = Tensor({6, 8}, factors);
  tensor.permutation = {.view = {2, 3, 8}, .order = {1, 0, 2}};
  ASSERT_TRUE(CanScaleColumns(tensor));
  const std::vector<float> scaled = InPieces(tensor, values, 11);
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(scaled[i], values[i] * factors[i % 8]) << i;
  }
}

TEST(ColumnFactors, AreRoundedToTheOutputsType) {
  OutputTensor tensor = Tensor({2}, {1.5F, 3.0F});
  tensor.transform.to = DType::kBF16;
  std::uint16_t halves[2] = {0x3F81, 0x3F81};  // 1.0078125
  ScaleColumns(tensor, 0, std::as_writable_bytes(std::span(halves)));
  EXPECT_EQ(halves[0], 0x3FC2);  // 1.51171875 lies between 0x3FC1 and 0x3FC2: to the even one
  EXPECT_EQ(halves[1], 0x4042);  // 3.0234375 likewise, of steps twice as large
}

TEST(ColumnFactors, AreRefusedWhereColumnsAreNotTheLastAxis) {
  const std::vector<float> factors = Made(8);
  EXPECT_FALSE(CanScaleColumns(Tensor({8, 6}, factors)));
  EXPECT_FALSE(CanScaleColumns(Tensor({}, factors)));
  EXPECT_FALSE(CanScaleColumns(Tensor({6, 8}, {})));
  OutputTensor transposed = Tensor({6, 8}, factors);
  transposed.permutation = {.view = {8, 6}, .order = {1, 0}};
  EXPECT_FALSE(CanScaleColumns(transposed));
  OutputTensor codes = Tensor({6, 8}, factors);
  codes.transform.to = DType::kF8E4M3;
  EXPECT_FALSE(CanScaleColumns(codes));
}

}  // namespace
}  // namespace slipway::engine
