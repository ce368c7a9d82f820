// A low-rank update merged into a weight: W' = W + scale (B A), the scalar reference that defines the result.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "worker/engine/plan/export_plan.h"
#include "worker/engine/transform/rounding.h"

namespace slipway::engine {

// Limits of what is merged: they bound what a segment holds.
inline constexpr std::int64_t kMaximumRank = 8192;
inline constexpr std::int64_t kMaximumFactorBytes = std::int64_t{8} << 20;  // of A, as it is stored
inline constexpr std::int64_t kFactorRowBytes = std::int64_t{1} << 20;      // of B's rows of one part, in FP32

// Whether MergeLowRank can do it: all of F32, BF16 and F16, and within the limits.
[[nodiscard]] bool CanMerge(const LowRankUpdate& update, const ElementTransform& transform, std::int64_t columns);

// Elements of the output from one on that are made alike: up to which, in the same block, rows have an update or none,
// and what of A and B they take.
struct UpdateSpan {
  std::int64_t count = 0;      // elements, of one part at most
  bool updated = false;        // the rest only if so
  std::int64_t first_row = 0;  // the output's, to which the first row of B's that are taken belongs
  std::int64_t a_first = 0;    // elements of A and of B
  std::int64_t a_count = 0;
  std::int64_t b_first = 0;
  std::int64_t b_count = 0;
};

// Of at most `count` elements from `first` on of a matrix with so many columns.
[[nodiscard]] UpdateSpan SpanOf(const LowRankUpdate& update, std::int64_t columns, std::int64_t first,
                                std::int64_t count);

// What the factors of one part take in FP32: all of A, and rows of B.
[[nodiscard]] std::int64_t MergeMemory(const LowRankUpdate& update, std::int64_t columns);

struct LowRankFactors {
  const float* a = nullptr;  // [rank, columns]
  const float* b = nullptr;  // [rows, rank], from row `first_row` of the output on; of blocks [rank, rows]
  std::int64_t rank = 0;
  std::int64_t columns = 0;
  std::int64_t first_row = 0;
  float scale = 0;
  std::int64_t b_rows = 0;  // of blocks, how many; 0: not transposed

  [[nodiscard]] float B(std::int64_t row, std::int64_t r) const {
    return b_rows > 0 ? b[r * b_rows + row] : b[row * rank + r];
  }
};

// The elements of an output from number `first` on, as many as `source` (any alignment, little-endian) has:
//   sum = 0; for r = 0 ... rank - 1: sum = sum + B[row, r] * A[r, column]
//   output = W + scale * sum
// where A and B are the factors' values in FP32 (of blocks: rounded to the output's dtype before, as they are written).
// Every operation is rounded to FP32 by itself, nothing is fused; the result is rounded to the output's dtype. Requires
// CanMerge. What that last rounding did is added to `rounding`, unless that is null; finite values whose sum FP32
// cannot hold are overflows, too. Thread-safe.
void MergeLowRank(const ElementTransform& transform, const LowRankFactors& factors, std::int64_t first,
                  std::span<const std::byte> source, std::span<std::byte> output, Rounding* rounding = nullptr);

}  // namespace slipway::engine
