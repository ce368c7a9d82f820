#include "worker/engine/checkpoint/archive.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/checked_math.h"
#include "common/error.h"
#include "worker/engine/checkpoint/torch_archive.h"
#include "worker/engine/checkpoint/torch_tensor.h"

namespace slipway::engine {
namespace {

// The block's strides if `stored` is its shape with any number of axes of extent 1 added or left out.
std::optional<Shape> StridesFor(const Shape& sizes, const TorchTensor& stored) {
  Shape strides;
  std::size_t axis = 0;
  const auto skip_ones = [&] {
    while (axis < stored.shape.size() && stored.shape[axis] == 1) {
      ++axis;
    }
  };
  for (const std::int64_t size : sizes) {
    if (axis < stored.shape.size() && stored.shape[axis] == size) {
      strides.push_back(stored.strides[axis++]);
      continue;
    }
    if (size == 1) {
      strides.push_back(0);
      continue;
    }
    skip_ones();
    if (axis == stored.shape.size() || stored.shape[axis] != size) {
      return std::nullopt;
    }
    strides.push_back(stored.strides[axis++]);
  }
  skip_ones();
  return axis == stored.shape.size() ? std::optional(strides) : std::nullopt;
}

bool IsContiguous(const Shape& sizes, const Shape& strides) {
  std::int64_t expected = 1;
  for (std::size_t axis = sizes.size(); axis-- > 0;) {
    if (sizes[axis] != 1 && strides[axis] != expected) {
      return false;
    }
    expected *= sizes[axis];
  }
  return true;
}

// Places the block inside its storage member; checked against both what the pickle and what the archive say.
absl::StatusOr<Piece> Place(const Piece& piece, const TorchTensor& stored, const ArchiveMember& storage) {
  const std::optional<Shape> strides = StridesFor(piece.sizes, stored);
  if (!strides) {
    return Error(Reason::kCheckpointCorrupt, fmt::format("the archive's tensor has shape [{}], the index says [{}]",
                                                         fmt::join(stored.shape, ", "), fmt::join(piece.sizes, ", ")));
  }
  const std::int64_t element = InfoOf(stored.dtype).bytes;
  const std::optional<std::int64_t> span = SpanOf(piece.sizes, *strides);
  const std::optional<std::int64_t> length = span ? CheckedMultiply(*span, element) : std::nullopt;
  const std::optional<std::int64_t> start = CheckedMultiply(stored.storage_offset, element);
  const std::optional<std::int64_t> end = length && start ? CheckedAdd(*start, *length) : std::nullopt;
  if (!end || *end > stored.storage_bytes || *end > storage.size) {
    return Error(Reason::kCheckpointCorrupt, fmt::format("the tensor reaches past its storage, which has {} bytes",
                                                         std::min(stored.storage_bytes, storage.size)));
  }
  Piece placed = piece;
  placed.in_archive = false;
  placed.position = storage.position + *start;
  placed.length = *length;
  placed.strides = IsContiguous(piece.sizes, *strides) ? Shape() : *strides;
  return placed;
}

absl::StatusOr<Piece> Locate(const SourceFile& file, const StoredTensor& tensor, const Piece& piece) {
  SLIPWAY_ASSIGN_OR_RETURN(const TorchArchive archive, TorchArchive::Open(file, piece.position, piece.length));
  SLIPWAY_ASSIGN_OR_RETURN(const PickleDocument document, archive.ReadPickle());
  SLIPWAY_ASSIGN_OR_RETURN(const TorchTensor stored, DescribeTensor(document, document.root()));
  if (stored.dtype != tensor.dtype) {
    return Error(Reason::kCheckpointCorrupt,
                 fmt::format("the archive's tensor is {}, the index says {}", InfoOf(stored.dtype).torch_name,
                             InfoOf(tensor.dtype).torch_name));
  }
  SLIPWAY_ASSIGN_OR_RETURN(const ArchiveMember storage, archive.Storage(stored.storage_key));
  return Place(piece, stored, storage);
}

}  // namespace

absl::StatusOr<Piece> LocateElements(const Checkpoint& checkpoint, const StoredTensor& tensor, const Piece& piece) {
  if (!piece.in_archive) {
    return piece;
  }
  const CheckpointFile& file = checkpoint.files[static_cast<std::size_t>(piece.file)];
  absl::StatusOr<Piece> located = Locate(*file.file, tensor, piece);
  if (!located.ok()) {
    return AddWhere(located.status(), {.tensor = tensor.name, .file = file.file->name(), .offset = piece.position});
  }
  return located;
}

}  // namespace slipway::engine
