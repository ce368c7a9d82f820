#include "worker/engine/plan/quantizer_rows.h"

#include <algorithm>
#include <cstddef>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/error.h"

namespace slipway::engine {
namespace {

std::int64_t Blocks(std::int64_t extent, std::int64_t block) { return extent / block + (extent % block != 0 ? 1 : 0); }

// Rows [grid, grid + count) of amaxes are those of rows [weight, weight + count) of the weight, in blocks.
struct Segment {
  std::int64_t weight = 0;
  std::int64_t grid = 0;
  std::int64_t count = 0;
};

// Where the pieces of a part begin and end along its rows.
std::set<std::int64_t> Boundaries(const CanonicalPart& part, const Checkpoint& checkpoint) {
  const StoredTensor& stored = checkpoint.tensors[static_cast<std::size_t>(part.stored)];
  const std::size_t axis = part.fixed.size();
  std::set<std::int64_t> boundaries = {0, stored.shape[axis]};
  for (const Piece& piece : stored.pieces) {
    bool holds = true;
    for (std::size_t i = 0; holds && i < axis; ++i) {
      holds = piece.offsets[i] <= part.fixed[i] && part.fixed[i] - piece.offsets[i] < piece.sizes[i];
    }
    if (holds) {
      boundaries.insert(piece.offsets[axis]);
    }
  }
  return boundaries;
}

absl::Status UnknownOrder(const CanonicalTensor& amaxes, const CanonicalTensor& weight) {
  return Error(
      Reason::kCheckpointUnsupported,
      fmt::format("which of its rows are of which rows of {} cannot be told: they are not cut alike", weight.name),
      {.tensor = amaxes.name});
}

// The order of a gated weight's amaxes, whose pieces are [gate; up] of one rank each.
absl::StatusOr<std::vector<Segment>> GatedOrder(const CanonicalTensor& amaxes, const CanonicalTensor& weight,
                                                std::int64_t block_rows, const Checkpoint& checkpoint) {
  const std::set<std::int64_t> pieces = Boundaries(amaxes.parts.front(), checkpoint);
  const std::int64_t half = amaxes.shape[0] / 2;
  std::vector<Segment> segments;
  std::set<std::int64_t> gates = {0};  // of weight rows
  std::int64_t done = 0;
  for (auto piece = pieces.begin(); std::next(piece) != pieces.end(); ++piece) {
    const std::int64_t rows = *std::next(piece) - *piece;
    if (rows % 2 != 0) {
      return UnknownOrder(amaxes, weight);
    }
    segments.push_back({.weight = done, .grid = *piece, .count = rows / 2});
    segments.push_back({.weight = half + done, .grid = *piece + rows / 2, .count = rows / 2});
    done += rows / 2;
    gates.insert(done * block_rows);
  }
  std::set<std::int64_t> expected = gates;
  if (weight.parts.size() == 1) {
    for (const std::int64_t gate : gates) {
      expected.insert(half * block_rows + gate);
    }
  }
  return Boundaries(weight.parts.front(), checkpoint) == expected
             ? absl::StatusOr<std::vector<Segment>>(std::move(segments))
             : UnknownOrder(amaxes, weight);
}

absl::StatusOr<std::vector<Segment>> OrderOf(const CanonicalTensor& amaxes, const CanonicalTensor& weight,
                                             std::int64_t block_rows, bool gated, const Checkpoint& checkpoint) {
  const std::vector<Segment> natural = {{.weight = 0, .grid = 0, .count = amaxes.shape[0]}};
  if (amaxes.parts.size() > 1 || amaxes.shape[0] == 0) {
    return natural;  // gate and up each for itself
  }
  if (gated) {
    return GatedOrder(amaxes, weight, block_rows, checkpoint);
  }
  // A weight of several parts was put together of each rank's.
  const bool of_one_rank = Boundaries(amaxes.parts.front(), checkpoint).size() == 2;
  return weight.parts.size() == 1 || of_one_rank ? absl::StatusOr<std::vector<Segment>>(natural)
                                                 : UnknownOrder(amaxes, weight);
}

// Appends what [begin, begin + count) of the weight's rows, in blocks, is in the grid.
void Append(const std::vector<Segment>& order, std::int64_t begin, std::int64_t count, std::vector<RowRange>& rows) {
  while (count > 0) {
    const auto segment = std::ranges::find_if(order, [begin](const Segment& candidate) {
      return begin >= candidate.weight && begin - candidate.weight < candidate.count;
    });
    if (segment == order.end()) {
      return;  // RegionsOf's regions then are too few, which AmaxesOf sees
    }
    const std::int64_t within = begin - segment->weight;
    const std::int64_t taken = std::min(count, segment->count - within);
    rows.push_back({segment->grid + within, taken});
    begin += taken;
    count -= taken;
  }
}

}  // namespace

bool IsGated(const CanonicalTensor& weight, const ModelConfiguration& configuration) {
  return weight.name.ends_with("linear_fc1.weight") && !weight.name.starts_with("vision_model.") &&
         (weight.parts.size() == 2 || configuration.gated);
}

absl::StatusOr<StoredAmaxes> AmaxesOf(const CanonicalTensor& amaxes, const CanonicalTensor& weight, AmaxBlock block,
                                      bool gated, const std::vector<RowRange>& rows, const Checkpoint& checkpoint) {
  const std::int64_t weight_rows = weight.shape.size() == 2 ? weight.shape[0] : 0;
  const std::int64_t grid_rows = Blocks(weight_rows, block.rows);
  const std::int64_t columns = block.columns == 0 || weight_rows == 0 ? 1 : Blocks(weight.shape[1], block.columns);
  Shape shape = {grid_rows, columns};
  if (amaxes.shape.size() == 1 && columns == 1) {
    shape.pop_back();
  }
  if (weight_rows == 0 || amaxes.shape != shape) {
    return Error(
        Reason::kTensorShapeMismatch,
        fmt::format("has shape [{}]; {} of [{}] in blocks of {} x {} has ranges [{}]", fmt::join(amaxes.shape, ", "),
                    weight.name, fmt::join(weight.shape, ", "), block.rows,
                    block.columns == 0 && weight_rows != 0 ? weight.shape[1] : block.columns, fmt::join(shape, ", ")),
        {.tensor = amaxes.name});
  }
  SLIPWAY_ASSIGN_OR_RETURN(const std::vector<Segment> order, OrderOf(amaxes, weight, block.rows, gated, checkpoint));
  StoredAmaxes stored{.regions = {}, .dtype = amaxes.dtype, .rows = 0, .columns = columns};
  std::vector<RowRange> grid;
  for (const RowRange& range : rows) {
    const bool whole =
        range.begin % block.rows == 0 && (range.count % block.rows == 0 || range.begin + range.count == weight_rows);
    if (!whole) {
      return Error(Reason::kCheckpointUnsupported,
                   fmt::format("rows {} to {} of {} cut its blocks of {} rows", range.begin, range.begin + range.count,
                               weight.name, block.rows),
                   {.tensor = amaxes.name});
    }
    const std::int64_t count = Blocks(range.count, block.rows);
    Append(order, range.begin / block.rows, count, grid);
    stored.rows += count;
  }
  std::int64_t found = 0;
  for (const RowRange& range : grid) {
    found += range.count;
  }
  if (found != stored.rows) {
    return Error(Reason::kInternal, "has not all rows of its weight", {.tensor = amaxes.name});
  }
  SLIPWAY_ASSIGN_OR_RETURN(stored.regions, RegionsOf(amaxes, grid, checkpoint));
  return stored;
}

}  // namespace slipway::engine
