// How a band that does not fit a lane is cut, and where each piece's data lies in the lane. Plain arithmetic.
#pragma once

#include <cstdint>
#include <optional>

#include "worker/engine/quantize/quantizer.h"

namespace slipway::engine {

// Offsets, multiples of 256, of what one piece needs; `size` is the end of the last.
struct PieceLayout {
  std::int64_t values = 0;
  std::int64_t amaxes = 0;
  std::int64_t codes = 0;
  std::int64_t scales = 0;
  std::int64_t zero_points = 0;
  std::int64_t statistics = 0;
  std::int64_t size = 0;
};

// Of `rows` of the job's band. What is not wanted has no room, except for scales and zero points, which kernels need.
[[nodiscard]] PieceLayout LayoutOf(const QuantizeJob& job, std::int64_t rows);

// Rows that cannot be parted: of a square, of a pair, or all where columns lie side by side in memory.
[[nodiscard]] std::int64_t RowsTogether(const QuantizeJob& job);

// The most rows, a multiple of RowsTogether or all, whose layout has at most `capacity` bytes; nothing if none do.
[[nodiscard]] std::optional<std::int64_t> RowsOfPiece(const QuantizeJob& job, std::int64_t capacity);

// The part of the job that is rows [first, first + rows): as RowsOfPiece allows them.
[[nodiscard]] QuantizeJob PieceOf(const QuantizeJob& job, std::int64_t first, std::int64_t rows);

}  // namespace slipway::engine
