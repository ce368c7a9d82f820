// Which values of a band share which scale.
#pragma once

#include <cstdint>

#include "worker/engine/quantize/quantizer.h"

namespace slipway::engine {

struct Block {
  std::int64_t row = 0;
  std::int64_t column = 0;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
};

// For codings with a scale a block, that is, any but kTensor. Scales are numbered in the order in which they lie.
class BlockGrid {
 public:
  BlockGrid(const Coding& coding, std::int64_t rows, std::int64_t columns);

  [[nodiscard]] std::int64_t blocks() const { return down_ * across_; }
  [[nodiscard]] Block BlockOf(std::int64_t scale) const;
  [[nodiscard]] std::int64_t ScaleOf(std::int64_t row, std::int64_t column) const;

 private:
  std::int64_t rows_;
  std::int64_t columns_;
  std::int64_t block_rows_;
  std::int64_t block_columns_;
  std::int64_t down_;
  std::int64_t across_;
  bool transposed_;  // [scales a row, N]
};

}  // namespace slipway::engine
