// Compiled without contraction (worker/CMakeLists.txt): a fused multiply-add would round differently on some machines.
#include "worker/engine/transform/low_rank_update.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "worker/engine/transform/element_transform.h"

namespace slipway::engine {
namespace {

// Columns that are summed at a time, few enough to stay in registers.
constexpr std::size_t kBlock = 32;
using Block = std::array<float, kBlock>;

// Of B's row `b_row`: sums of `count` columns, the first of which `a` points to in A's first row.
void Sum(const float* a, std::int64_t b_row, const LowRankFactors& factors, std::size_t count, Block& sums) {
  sums.fill(0);
  for (std::int64_t r = 0; r < factors.rank; ++r) {
    const float factor = factors.B(b_row, r);
    const float* const row = a + r * factors.columns;
    if (count == kBlock) {
      for (std::size_t i = 0; i < kBlock; ++i) {  // a constant number, for the vectorizer
        sums[i] += factor * row[i];
      }
      continue;
    }
    for (std::size_t i = 0; i < count; ++i) {
      sums[i] += factor * row[i];
    }
  }
}

// Most rows of the output that one part may have.
std::int64_t MaximumMergedRows(const LowRankUpdate& update) {
  return kFactorRowBytes / static_cast<std::int64_t>(sizeof(float)) / update.rank;
}

// How many of a block's values, from `column` on, are infinite or no number though all that they are made of is finite.
std::int64_t CountOverflows(std::span<const float> values, std::span<const float> before, const LowRankFactors& factors,
                            std::int64_t b_row, std::int64_t column) {
  std::int64_t overflows = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    bool is_ours = !std::isfinite(values[i]) && std::isfinite(before[i]);
    for (std::int64_t r = 0; is_ours && r < factors.rank; ++r) {
      is_ours = std::isfinite(factors.a[r * factors.columns + column + static_cast<std::int64_t>(i)]) &&
                std::isfinite(factors.B(b_row, r));
    }
    overflows += is_ours ? 1 : 0;
  }
  return overflows;
}

}  // namespace

bool CanMerge(const LowRankUpdate& update, const ElementTransform& transform, std::int64_t columns) {
  return IsFloat(transform.from) && IsFloat(transform.to) && !transform.add_one && IsFloat(update.a_dtype) &&
         IsFloat(update.b_dtype) && update.rank > 0 && update.rank <= kMaximumRank && columns > 0 &&
         columns <= kMaximumFactorBytes / InfoOf(update.a_dtype).bytes / update.rank &&
         (!update.block_rows || (update.updated_rows > 0 && update.updated_rows <= *update.block_rows &&
                                 update.updated_rows <= MaximumMergedRows(update)));
}

UpdateSpan SpanOf(const LowRankUpdate& update, std::int64_t columns, std::int64_t first, std::int64_t count) {
  const std::int64_t row = first / columns;
  if (!update.block_rows) {
    count = std::min(count, MaximumMergedRows(update) * columns - first % columns);
    const std::int64_t rows = (first + count - 1) / columns + 1 - row;
    return {.count = count,
            .updated = true,
            .first_row = row,
            .a_first = 0,
            .a_count = update.rank * columns,
            .b_first = row * update.rank,
            .b_count = rows * update.rank};
  }
  const std::int64_t block = row / *update.block_rows;
  const std::int64_t begin = block * *update.block_rows;
  const bool updated = row - begin < update.updated_rows;
  const std::int64_t end = begin + (updated ? update.updated_rows : *update.block_rows);
  return {.count = std::min(count, end * columns - first),
          .updated = updated,
          .first_row = begin,
          .a_first = block * update.rank * columns,
          .a_count = update.rank * columns,
          .b_first = block * update.rank * update.updated_rows,
          .b_count = update.rank * update.updated_rows};
}

std::int64_t MergeMemory(const LowRankUpdate& update, std::int64_t columns) {
  return update.rank * columns * static_cast<std::int64_t>(sizeof(float)) + kFactorRowBytes;
}

void MergeLowRank(const ElementTransform& transform, const LowRankFactors& factors, std::int64_t first,
                  std::span<const std::byte> source, std::span<std::byte> output, Rounding* rounding) {
  const auto from = static_cast<std::size_t>(InfoOf(transform.from).bytes);
  const auto to = static_cast<std::size_t>(InfoOf(transform.to).bytes);
  const std::size_t count = source.size() / from;
  Block sums;
  Block values;
  for (std::size_t done = 0; done < count;) {
    const std::int64_t element = first + static_cast<std::int64_t>(done);
    const std::int64_t row = element / factors.columns;
    const std::int64_t column = element % factors.columns;
    const std::size_t length = std::min({kBlock, count - done, static_cast<std::size_t>(factors.columns - column)});
    Sum(factors.a + column, row - factors.first_row, factors, length, sums);
    const std::span<float> block = std::span(values).first(length);
    TransformElements({.add_one = false, .from = transform.from, .to = DType::kF32},
                      source.subspan(done * from, length * from), std::as_writable_bytes(block));
    const Block before = values;
    for (std::size_t i = 0; i < length; ++i) {
      block[i] += factors.scale * sums[i];
    }
    if (rounding != nullptr) {
      rounding->overflows += CountOverflows(block, before, factors, row - factors.first_row, column);
    }
    TransformElements({.add_one = false, .from = DType::kF32, .to = transform.to}, std::as_bytes(block),
                      output.subspan(done * to, length * to), rounding);
    done += length;
  }
}

}  // namespace slipway::engine
