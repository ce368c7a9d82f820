#include "worker/engine/checkpoint/legacy_assembly.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/checked_math.h"
#include "common/error.h"

namespace slipway::engine {
namespace {

// A run of rows (or, along axis 1, of columns) of a rank's tensor and where it goes.
struct RowRun {
  std::int64_t from = 0;   // in the rank's tensor
  std::int64_t to = 0;     // in the whole tensor
  std::int64_t count = 0;  // along the axis
  std::int64_t step = 1;   // from one to the next in the rank's tensor
};

bool IsContiguous(const Shape& sizes, const Shape& strides) {
  std::int64_t expected = 1;
  for (std::size_t axis = sizes.size(); axis-- > 0;) {
    if (sizes[axis] != 1 && strides[axis] != expected) {
      return false;
    }
    expected *= sizes[axis];  // cannot overflow: the tensor lies in its storage
  }
  return true;
}

// Everything below stays inside the rank's view, which was checked against its storage.
Piece MakePiece(const RankPart& part, std::size_t axis, const RowRun& run) {
  const TorchTensor& view = part.tensor->view;
  const std::int64_t bytes = InfoOf(view.dtype).bytes;
  Piece piece{.offsets = Shape(view.shape.size(), 0), .sizes = view.shape, .strides = view.strides, .file = part.file};
  std::int64_t first = view.storage_offset;
  if (!view.shape.empty()) {
    piece.offsets[axis] = run.to;
    piece.sizes[axis] = run.count;
    piece.strides[axis] *= run.step;
    first += run.from * view.strides[axis];
  }
  piece.position = part.tensor->position + first * bytes;
  piece.length = SpanOf(piece.sizes, piece.strides).value_or(0) * bytes;
  if (IsContiguous(piece.sizes, piece.strides)) {
    piece.strides.clear();
  }
  return piece;
}

class Assembler {
 public:
  Assembler(const std::string& name, std::span<const RankPart> parts, const Assembly& assembly)
      : name_(name), parts_(parts), assembly_(assembly), first_(parts.front().tensor->view) {}

  absl::StatusOr<StoredTensor> Run() {
    SLIPWAY_RETURN_IF_ERROR(CheckAlike());
    StoredTensor tensor{.name = name_, .dtype = first_.dtype, .shape = first_.shape, .pieces = {}};
    const bool shared = assembly_.sharing != RankSharing::kReplicated;
    const std::size_t axis = assembly_.sharing == RankSharing::kColumns ? 1 : 0;
    if (shared && axis >= first_.shape.size()) {
      return Mismatch(parts_.front(), "it has no axis along which the ranks could share it");
    }
    const std::size_t ranks = shared ? parts_.size() : 1;
    if (shared) {
      const auto extent = CheckedMultiply(first_.shape[axis], static_cast<std::int64_t>(ranks));
      if (!extent) {
        return Mismatch(parts_.front(), "the whole tensor's size overflows");
      }
      tensor.shape[axis] = *extent;
    }
    for (std::size_t rank = 0; rank < ranks; ++rank) {
      SLIPWAY_ASSIGN_OR_RETURN(const std::vector<RowRun> runs, RunsOf(static_cast<std::int64_t>(rank), axis));
      for (const RowRun& run : runs) {
        if (CheckedVolume(first_.shape).value_or(0) > 0) {
          tensor.pieces.push_back(MakePiece(parts_[rank], axis, run));
        }
      }
    }
    std::ranges::sort(tensor.pieces, {}, &Piece::offsets);
    return tensor;
  }

 private:
  [[nodiscard]] absl::Status CheckAlike() const {
    for (const RankPart& part : parts_) {
      const TorchTensor& view = part.tensor->view;
      if (view.shape != first_.shape || view.dtype != first_.dtype) {
        return Mismatch(part, fmt::format("shape [{}] of {}; {} has [{}] of {}", fmt::join(view.shape, ", "),
                                          InfoOf(view.dtype).torch_name, parts_.front().file_name,
                                          fmt::join(first_.shape, ", "), InfoOf(first_.dtype).torch_name));
      }
    }
    return absl::OkStatus();
  }

  // Which rows (columns) of a rank go where, in the rank's order.
  [[nodiscard]] absl::StatusOr<std::vector<RowRun>> RunsOf(std::int64_t rank, std::size_t axis) const {
    if (first_.shape.empty()) {
      return std::vector<RowRun>(1);
    }
    const std::int64_t extent = first_.shape[axis];
    if (assembly_.qkv_order) {
      return QkvRuns(rank, extent);
    }
    if (assembly_.sharing != RankSharing::kFirstLinear || !assembly_.gated || parts_.size() == 1) {
      return std::vector{RowRun{.from = 0, .to = rank * extent, .count = extent}};
    }
    if (extent % 2 != 0) {
      return Mismatch(parts_.front(), fmt::format("{} rows cannot be gate and up halves", extent));
    }
    const std::int64_t half = extent / 2;
    const std::int64_t up = half * static_cast<std::int64_t>(parts_.size());
    return std::vector{RowRun{.from = 0, .to = rank * half, .count = half},
                       RowRun{.from = half, .to = up + rank * half, .count = half}};
  }

  // To [heads, 3, dimension].
  [[nodiscard]] absl::StatusOr<std::vector<RowRun>> QkvRuns(std::int64_t rank, std::int64_t rows) const {
    constexpr std::int64_t kKinds = 3;  // query, key, value
    const std::int64_t heads = assembly_.heads;
    if (heads <= 0 || rows <= 0 || rows % kKinds != 0 || (rows / kKinds) % heads != 0) {
      return Mismatch(parts_.front(), fmt::format("{} rows are not query, key and value of {} heads", rows, heads));
    }
    const std::int64_t dimension = rows / kKinds / heads;
    std::vector<RowRun> runs;
    for (std::int64_t head = 0; head < heads; ++head) {
      for (std::int64_t kind = 0; kind < kKinds; ++kind) {
        const std::int64_t to = rank * rows + (head * kKinds + kind) * dimension;
        if (*assembly_.qkv_order == QkvOrder::kKindFirst) {
          runs.push_back({.from = (kind * heads + head) * dimension, .to = to, .count = dimension});
        } else {
          runs.push_back({.from = head * dimension * kKinds + kind, .to = to, .count = dimension, .step = kKinds});
        }
      }
    }
    return runs;
  }

  [[nodiscard]] absl::Status Mismatch(const RankPart& part, std::string_view message) const {
    return Error(Reason::kTensorShapeMismatch, message, {.tensor = name_, .file = std::string(part.file_name)});
  }

  const std::string& name_;
  std::span<const RankPart> parts_;
  const Assembly& assembly_;
  const TorchTensor& first_;
};

}  // namespace

absl::StatusOr<StoredTensor> AssembleTensor(const std::string& name, std::span<const RankPart> parts,
                                            const Assembly& assembly) {
  return Assembler(name, parts, assembly).Run();
}

}  // namespace slipway::engine
