#include "worker/engine/transform/low_rank_update.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "worker/engine/transform/element_transform.h"

namespace slipway::engine {
namespace {

struct Matrices {
  std::int64_t rows, columns, rank;
  float scale = 0.7F;  // not a power of two
  std::vector<float> w, a, b;
};

Matrices Random(std::int64_t rows, std::int64_t columns, std::int64_t rank) {
  std::mt19937 random(7);
  std::uniform_real_distribution<float> value(-2, 2);
  Matrices m{rows, columns, rank, 0.7F, {}, {}, {}};
  const auto fill = [&](std::vector<float>& matrix, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
      matrix.push_back(value(random));
    }
  };
  fill(m.w, rows * columns);
  fill(m.a, rank * columns);
  fill(m.b, rows * rank);
  return m;
}

// By the definition, one rounded operation after the other.
float Defined(const Matrices& m, float w, std::int64_t row, std::int64_t column) {
  volatile float sum = 0;
  for (std::int64_t r = 0; r < m.rank; ++r) {
    const volatile float product =
        m.b[static_cast<std::size_t>(row * m.rank + r)] * m.a[static_cast<std::size_t>(r * m.columns + column)];
    sum = sum + product;
  }
  const volatile float scaled = m.scale * sum;
  return w + scaled;
}

LowRankFactors Factors(const Matrices& m, std::int64_t first_row) {
  return {.a = m.a.data(),
          .b = m.b.data() + first_row * m.rank,
          .rank = m.rank,
          .columns = m.columns,
          .first_row = first_row,
          .scale = m.scale};
}

TEST(LowRankUpdate, EveryElementIsTheDefinitionsWhereverAPartBeginsAndEnds) {
  const Matrices m = Random(9, 77, 5);  // columns: two whole blocks and a rest
  const std::int64_t all = m.rows * m.columns;
  for (const std::int64_t first : {0L, 1L, 76L, 77L, 200L}) {
    for (const std::int64_t count : {1L, 31L, 32L, 77L, 160L, all - first}) {
      const std::int64_t length = std::min(count, all - first);
      std::vector<float> output(static_cast<std::size_t>(length));
      MergeLowRank({.add_one = false, .from = DType::kF32, .to = DType::kF32}, Factors(m, first / m.columns), first,
                   std::as_bytes(std::span(m.w))
                       .subspan(static_cast<std::size_t>(first) * 4, static_cast<std::size_t>(length) * 4),
                   std::as_writable_bytes(std::span(output)));
      for (std::int64_t i = 0; i < length; ++i) {
        const std::int64_t element = first + i;
        ASSERT_EQ(output[static_cast<std::size_t>(i)],
                  Defined(m, m.w[static_cast<std::size_t>(element)], element / m.columns, element % m.columns))
            << element;
      }
    }
  }
}

TEST(LowRankUpdate, SixteenBitWeightsAreAddedToInFp32AndRoundedOnce) {
  const Matrices m = Random(3, 40, 4);
  std::vector<std::uint16_t> w;
  for (const float value : m.w) {
    w.push_back(BFloat16FromFloat(value));
  }
  std::vector<std::uint16_t> output(w.size());
  MergeLowRank({.add_one = false, .from = DType::kBF16, .to = DType::kF16}, Factors(m, 0), 0,
               std::as_bytes(std::span(w)), std::as_writable_bytes(std::span(output)));
  for (std::size_t i = 0; i < w.size(); ++i) {
    const auto element = static_cast<std::int64_t>(i);
    EXPECT_EQ(output[i], HalfFromFloat(Defined(m, FloatFromBFloat16(w[i]), element / m.columns, element % m.columns)));
  }
}

TEST(LowRankUpdate, AFactorThatIsStoredTransposedGivesTheSame) {
  const Matrices m = Random(9, 77, 5);
  std::vector<float> transposed;
  for (std::int64_t r = 0; r < m.rank; ++r) {
    for (std::int64_t row = 0; row < m.rows; ++row) {
      transposed.push_back(m.b[static_cast<std::size_t>(row * m.rank + r)]);
    }
  }
  LowRankFactors factors = Factors(m, 0);
  std::vector<float> expected(m.w.size());
  const auto merge = [&m, &factors](std::vector<float>& output) {
    MergeLowRank({.add_one = false, .from = DType::kF32, .to = DType::kF32}, factors, 0, std::as_bytes(std::span(m.w)),
                 std::as_writable_bytes(std::span(output)));
  };
  merge(expected);
  factors.b = transposed.data();
  factors.b_rows = m.rows;
  std::vector<float> output(m.w.size());
  merge(output);
  EXPECT_EQ(output, expected);
}

TEST(LowRankUpdate, PartsOfBlocksEndWhereTheUpdateDoes) {
  LowRankUpdate update;
  update.rank = 3;
  update.block_rows = 5;
  update.updated_rows = 2;
  constexpr std::int64_t kColumns = 10;
  const UpdateSpan inside = SpanOf(update, kColumns, 57, 1000);  // the first updated row of the second block
  EXPECT_TRUE(inside.updated);
  EXPECT_EQ(inside.count, 13);
  EXPECT_EQ(inside.first_row, 5);
  EXPECT_EQ(inside.a_first, 30);
  EXPECT_EQ(inside.a_count, 30);
  EXPECT_EQ(inside.b_first, 6);
  EXPECT_EQ(inside.b_count, 6);
  const UpdateSpan behind = SpanOf(update, kColumns, 70, 1000);
  EXPECT_FALSE(behind.updated);
  EXPECT_EQ(behind.count, 30);
  EXPECT_EQ(SpanOf(update, kColumns, 70, 4).count, 4);
}

TEST(LowRankUpdate, WhatIsTooLargeOrNoNumberIsNotMerged) {
  const ElementTransform copy{.add_one = false, .from = DType::kBF16, .to = DType::kBF16};
  LowRankUpdate update;
  update.rank = 64;
  EXPECT_TRUE(CanMerge(update, copy, 65'536));
  EXPECT_FALSE(CanMerge(update, copy, 65'537));  // 8 MiB
  update.a_dtype = DType::kF32;
  EXPECT_FALSE(CanMerge(update, copy, 65'536));
  update.rank = kMaximumRank + 1;
  EXPECT_FALSE(CanMerge(update, copy, 1));
  update.rank = 0;
  EXPECT_FALSE(CanMerge(update, copy, 1));
  update.rank = 1;
  EXPECT_TRUE(CanMerge(update, copy, 1));
  update.block_rows = 1 << 19;
  update.updated_rows = 1 << 18;
  EXPECT_TRUE(CanMerge(update, copy, 1));
  update.updated_rows = (1 << 18) + 1;  // 1 MiB of FP32
  EXPECT_FALSE(CanMerge(update, copy, 1));
  update.updated_rows = 2;
  update.block_rows = 1;
  EXPECT_FALSE(CanMerge(update, copy, 1));
  update.block_rows.reset();
  EXPECT_FALSE(CanMerge(update, {.add_one = true, .from = DType::kBF16, .to = DType::kBF16}, 1));
  EXPECT_FALSE(CanMerge(update, {.add_one = false, .from = DType::kF8E4M3, .to = DType::kBF16}, 1));
}

}  // namespace
}  // namespace slipway::engine
