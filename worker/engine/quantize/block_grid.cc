#include "worker/engine/quantize/block_grid.h"

#include <algorithm>

namespace slipway::engine {

BlockGrid::BlockGrid(const Coding& coding, std::int64_t rows, std::int64_t columns)
    : rows_(rows),
      columns_(columns),
      block_rows_(coding.sharing == Sharing::kSquare ? coding.group : 1),
      block_columns_(coding.sharing == Sharing::kRow ? columns : coding.group),
      down_((rows + block_rows_ - 1) / block_rows_),
      across_((columns + block_columns_ - 1) / block_columns_),
      transposed_(PacksColumns(coding.packing)) {}

Block BlockGrid::BlockOf(std::int64_t scale) const {
  const std::int64_t row = (transposed_ ? scale % down_ : scale / across_) * block_rows_;
  const std::int64_t column = (transposed_ ? scale / down_ : scale % across_) * block_columns_;
  return {.row = row,
          .column = column,
          .rows = std::min(block_rows_, rows_ - row),
          .columns = std::min(block_columns_, columns_ - column)};
}

std::int64_t BlockGrid::ScaleOf(std::int64_t row, std::int64_t column) const {
  const std::int64_t i = row / block_rows_;
  const std::int64_t j = column / block_columns_;
  return transposed_ ? j * down_ + i : i * across_ + j;
}

}  // namespace slipway::engine
