#include "worker/engine/checkpoint/coverage.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <span>

#include "common/checked_math.h"
#include "common/error.h"

namespace slipway::engine {
namespace {

// Pairs of pieces compared one by one, where they form no grid.
constexpr std::int64_t kMaximumPairs = 10'000'000;

class OverlapFinder {
 public:
  // False if two of `pieces` may overlap. They agree on all axes before `axis` and are sorted by offsets.
  bool AreDisjoint(std::span<const Piece> pieces, std::size_t axis) {
    if (pieces.size() < 2) {
      return true;
    }
    if (axis == pieces[0].sizes.size()) {
      return false;
    }
    if (!IsLayered(pieces, axis)) {
      return ArePairwiseDisjoint(pieces);
    }
    for (std::size_t first = 0; first < pieces.size();) {
      std::size_t last = first;
      while (last < pieces.size() && pieces[last].offsets[axis] == pieces[first].offsets[axis]) {
        ++last;
      }
      if (!AreDisjoint(pieces.subspan(first, last - first), axis + 1)) {
        return false;
      }
      first = last;
    }
    return true;
  }

  [[nodiscard]] bool gave_up() const { return pairs_ > kMaximumPairs; }

 private:
  // Whether, along `axis`, any two pieces span the same range or ranges that do not touch: a layer of a grid.
  static bool IsLayered(std::span<const Piece> pieces, std::size_t axis) {
    for (std::size_t i = 1; i < pieces.size(); ++i) {
      const std::int64_t before = pieces[i - 1].offsets[axis];
      const std::int64_t end = before + pieces[i - 1].sizes[axis];
      const bool same = pieces[i].offsets[axis] == before && pieces[i].sizes[axis] == pieces[i - 1].sizes[axis];
      if (!same && pieces[i].offsets[axis] < end) {
        return false;
      }
    }
    return true;
  }

  bool ArePairwiseDisjoint(std::span<const Piece> pieces) {
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      for (std::size_t j = i + 1; j < pieces.size(); ++j) {
        if (++pairs_ > kMaximumPairs || Overlap(pieces[i], pieces[j])) {
          return false;
        }
      }
    }
    return true;
  }

  static bool Overlap(const Piece& a, const Piece& b) {
    for (std::size_t axis = 0; axis < a.sizes.size(); ++axis) {
      if (a.offsets[axis] + a.sizes[axis] <= b.offsets[axis] || b.offsets[axis] + b.sizes[axis] <= a.offsets[axis]) {
        return false;
      }
    }
    return true;
  }

  std::int64_t pairs_ = 0;
};

bool IsInside(const Piece& piece, const Shape& shape) {
  if (piece.offsets.size() != shape.size() || piece.sizes.size() != shape.size()) {
    return false;
  }
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    if (piece.offsets[axis] < 0 || piece.sizes[axis] < 0 || piece.offsets[axis] > shape[axis] ||
        piece.sizes[axis] > shape[axis] - piece.offsets[axis]) {
      return false;
    }
  }
  return true;
}

}  // namespace

absl::Status CheckCoverage(const StoredTensor& tensor) {
  const auto corrupt = [&tensor](std::string_view message) {
    return Error(Reason::kCheckpointCorrupt, message, {.tensor = tensor.name});
  };
  const std::optional<std::int64_t> whole = CheckedVolume(tensor.shape);
  if (!whole || !CheckedMultiply(*whole, InfoOf(tensor.dtype).bytes)) {
    return corrupt("the tensor is larger than any memory");
  }
  std::int64_t sum = 0;
  bool has_empty = false;
  for (const Piece& piece : tensor.pieces) {
    if (!IsInside(piece, tensor.shape)) {
      return corrupt(fmt::format("the block at [{}] of size [{}] leaves the shape [{}]", fmt::join(piece.offsets, ", "),
                                 fmt::join(piece.sizes, ", "), fmt::join(tensor.shape, ", ")));
    }
    const std::int64_t volume = *CheckedVolume(piece.sizes);  // inside the shape, whose volume fits
    has_empty = has_empty || volume == 0;
    // Saturates: more than the whole is an error however much it is.
    sum = volume > *whole - std::min(sum, *whole) ? *whole + 1 : sum + volume;
  }
  if (sum < *whole) {
    return corrupt(fmt::format("the tensor's blocks hold {} of its {} elements", sum, *whole));
  }
  if (sum > *whole) {
    return corrupt("the tensor's blocks overlap: together they hold more elements than the tensor");
  }
  if (*whole == 0) {
    return absl::OkStatus();
  }
  // Pieces without elements overlap nothing, but would hide what does.
  std::vector<Piece> filled;
  if (has_empty) {
    std::ranges::copy_if(tensor.pieces, std::back_inserter(filled),
                         [](const Piece& piece) { return *CheckedVolume(piece.sizes) != 0; });
  }
  OverlapFinder finder;
  if (finder.AreDisjoint(has_empty ? filled : tensor.pieces, 0)) {
    return absl::OkStatus();
  }
  return finder.gave_up() ? Error(Reason::kLimitExceeded, "too many irregular blocks", {.tensor = tensor.name})
                          : corrupt("the tensor's blocks overlap");
}

}  // namespace slipway::engine
