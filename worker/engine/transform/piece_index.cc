#include "worker/engine/transform/piece_index.h"

#include <algorithm>
#include <cstddef>
#include <iterator>

namespace slipway::engine {

PieceIndex::PieceIndex(const StoredTensor& tensor) : tensor_(&tensor), starts_(tensor.shape.size()) {
  for (std::size_t axis = 0; axis < starts_.size(); ++axis) {
    std::vector<std::int64_t>& starts = starts_[axis];
    starts.reserve(tensor.pieces.size());
    for (const Piece& piece : tensor.pieces) {
      starts.push_back(piece.offsets[axis]);
    }
    std::ranges::sort(starts);
    // Not std::ranges::unique: clang 14 does not take libstdc++'s subrange.
    starts.erase(std::unique(starts.begin(), starts.end()), starts.end());
    starts.shrink_to_fit();
  }
  grid_ = IsGrid();
}

// Sorted by offsets, the pieces of a grid are its cells in row-major order.
bool PieceIndex::IsGrid() const {
  std::size_t cells = 1;
  for (const auto& starts : starts_) {
    cells *= starts.size();
    if (cells > tensor_->pieces.size()) {
      return false;
    }
  }
  if (cells != tensor_->pieces.size()) {
    return false;
  }
  for (std::size_t cell = 0; cell < cells; ++cell) {
    const Piece& piece = tensor_->pieces[cell];
    std::size_t rest = cell;
    for (std::size_t axis = starts_.size(); axis-- > 0;) {
      const auto& starts = starts_[axis];
      const std::size_t at = rest % starts.size();
      rest /= starts.size();
      const std::int64_t end = at + 1 < starts.size() ? starts[at + 1] : tensor_->shape[axis];
      if (piece.offsets[axis] != starts[at] || piece.offsets[axis] + piece.sizes[axis] != end) {
        return false;
      }
    }
  }
  return true;
}

std::int32_t PieceIndex::Find(std::span<const std::int64_t> element) const {
  if (grid_) {
    return FindInGrid(element);
  }
  const auto& pieces = tensor_->pieces;
  const auto begins_after = [](std::span<const std::int64_t> at, const Piece& piece) {
    return std::ranges::lexicographical_compare(at, piece.offsets);
  };
  const auto after = std::upper_bound(pieces.begin(), pieces.end(), element, begins_after);
  for (auto index = static_cast<std::int32_t>(std::distance(pieces.begin(), after)) - 1; index >= 0; --index) {
    if (Covers(index, element)) {
      return index;
    }
  }
  return -1;
}

std::int32_t PieceIndex::FindInGrid(std::span<const std::int64_t> element) const {
  std::size_t cell = 0;
  for (std::size_t axis = 0; axis < starts_.size(); ++axis) {
    const auto& starts = starts_[axis];
    const auto after = std::ranges::upper_bound(starts, element[axis]);
    if (after == starts.begin()) {
      return -1;
    }
    cell = cell * starts.size() + static_cast<std::size_t>(std::distance(starts.begin(), after)) - 1;
  }
  const auto index = static_cast<std::int32_t>(cell);
  return Covers(index, element) ? index : -1;
}

bool PieceIndex::Covers(std::int32_t piece, std::span<const std::int64_t> element) const {
  const Piece& candidate = tensor_->pieces[static_cast<std::size_t>(piece)];
  for (std::size_t axis = 0; axis < element.size(); ++axis) {
    if (element[axis] < candidate.offsets[axis] || element[axis] - candidate.offsets[axis] >= candidate.sizes[axis]) {
      return false;
    }
  }
  return true;
}

}  // namespace slipway::engine
