// Which piece of a stored tensor holds an element.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "worker/engine/checkpoint/checkpoint.h"

namespace slipway::engine {

// Thread-safe after construction. Refers to the tensor's pieces, which must outlive it.
class PieceIndex {
 public:
  explicit PieceIndex(const StoredTensor& tensor);

  // Index of the piece that covers `element` (one index an axis), or -1 where none does. Logarithmic where the pieces
  // are a grid, as all that training frameworks write today; otherwise the scan of the pieces that begin before.
  [[nodiscard]] std::int32_t Find(std::span<const std::int64_t> element) const;

 private:
  [[nodiscard]] bool IsGrid() const;
  [[nodiscard]] std::int32_t FindInGrid(std::span<const std::int64_t> element) const;
  [[nodiscard]] bool Covers(std::int32_t piece, std::span<const std::int64_t> element) const;

  const StoredTensor* tensor_;
  std::vector<std::vector<std::int64_t>> starts_;  // of the pieces along each axis, sorted, each once
  bool grid_ = false;
};

}  // namespace slipway::engine
