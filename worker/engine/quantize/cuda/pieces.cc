#include "worker/engine/quantize/cuda/pieces.h"

#include <algorithm>

namespace slipway::engine {
namespace {

constexpr std::int64_t kAlignment = 256;

std::int64_t Aligned(std::int64_t size) { return (size + kAlignment - 1) / kAlignment * kAlignment; }

// Of a span that lies row by row, the part of [first, first + count); nothing of nothing.
template <class Element>
std::span<Element> Part(std::span<Element> whole, std::int64_t first, std::int64_t count) {
  return whole.empty() ? whole : whole.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
}

}  // namespace

PieceLayout LayoutOf(const QuantizeJob& job, std::int64_t rows) {
  const std::int64_t columns = job.values.columns;
  const std::int64_t scales = ScaleCount(job.coding, rows, columns);
  PieceLayout layout;
  layout.amaxes = Aligned(rows * columns * InfoOf(job.values.dtype).bytes);
  layout.codes = layout.amaxes + (job.amaxes.empty() ? 0 : Aligned(scales * std::int64_t{sizeof(float)}));
  layout.scales = layout.codes + (job.codes.empty() ? 0 : Aligned(CodeBytes(job.coding, rows, columns)));
  layout.zero_points = layout.scales + Aligned(scales * InfoOf(job.coding.scale_dtype).bytes);
  layout.statistics = layout.zero_points + (HasZeroPoints(job.coding.rule) ? Aligned(scales) : 0);
  layout.size = layout.statistics + (job.statistics.empty() ? 0 : Aligned(rows * std::int64_t{sizeof(RowStatistics)}));
  return layout;
}

std::int64_t RowsTogether(const QuantizeJob& job) {
  switch (job.coding.packing) {
    case Packing::kWordsColumns:
    case Packing::kWordsRows:
      return job.values.rows;
    case Packing::kNibbleRows:
      // Squares of an odd number of rows are parted where a pair ends, too.
      return job.coding.sharing == Sharing::kSquare ? 2 * std::int64_t{job.coding.group} : 2;
    default:
      return job.coding.sharing == Sharing::kSquare ? job.coding.group : 1;
  }
}

std::optional<std::int64_t> RowsOfPiece(const QuantizeJob& job, std::int64_t capacity) {
  const std::int64_t together = std::min(RowsTogether(job), job.values.rows);
  std::int64_t least = 0;
  std::int64_t most = (job.values.rows + together - 1) / together;
  while (least < most) {  // the layout grows with the rows
    const std::int64_t middle = least + (most - least + 1) / 2;
    if (LayoutOf(job, std::min(middle * together, job.values.rows)).size <= capacity) {
      least = middle;
    } else {
      most = middle - 1;
    }
  }
  return least == 0 ? std::nullopt : std::optional(std::min(least * together, job.values.rows));
}

QuantizeJob PieceOf(const QuantizeJob& job, std::int64_t first, std::int64_t rows) {
  if (first == 0 && rows == job.values.rows) {
    return job;
  }
  const Coding& coding = job.coding;
  const std::int64_t columns = job.values.columns;
  const std::int64_t row_bytes = columns * InfoOf(job.values.dtype).bytes;
  const std::int64_t scale_bytes = InfoOf(coding.scale_dtype).bytes;
  // What lies before the piece is whole blocks and whole packed rows, of which these say how much there is.
  const std::int64_t codes_before = first == 0 ? 0 : CodeBytes(coding, first, columns);
  const std::int64_t scales_before = first == 0 ? 0 : ScaleCount(coding, first, columns);
  const std::int64_t scales = ScaleCount(coding, rows, columns);
  QuantizeJob piece = job;
  piece.values.rows = rows;
  piece.values.bytes = Part(job.values.bytes, first * row_bytes, rows * row_bytes);
  piece.amaxes = Part(job.amaxes, scales_before, scales);
  piece.codes = Part(job.codes, codes_before, CodeBytes(coding, rows, columns));
  piece.scales = Part(job.scales, scales_before * scale_bytes, scales * scale_bytes);
  piece.zero_points = Part(job.zero_points, scales_before, scales);
  piece.statistics = Part(job.statistics, first, rows);
  return piece;
}

}  // namespace slipway::engine
