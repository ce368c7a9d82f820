#include "worker/engine/transform/region_reader.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>
#include <utility>

#include "common/checked_math.h"
#include "common/error.h"
#include "worker/engine/checkpoint/archive.h"

namespace slipway::engine {
namespace {

// Located pieces that are kept; past this they are found again.
constexpr std::size_t kMaximumLocatedPieces = 1 << 17;

Shape ContiguousStrides(const Shape& sizes) {
  Shape strides(sizes.size(), 1);
  for (std::size_t axis = sizes.size(); axis-- > 1;) {
    strides[axis - 1] = strides[axis] * sizes[axis];
  }
  return strides;
}

// Bytes from a piece's first element to the end of its last, or nullopt where strides are negative or overflow.
std::optional<std::int64_t> SpanOf(const Piece& piece, std::int64_t element_bytes) {
  std::int64_t last = 0;
  for (std::size_t axis = 0; axis < piece.sizes.size(); ++axis) {
    const auto reach = CheckedMultiply(piece.sizes[axis] - 1, piece.strides[axis]);
    const auto sum = reach && piece.strides[axis] >= 0 ? CheckedAdd(last, *reach) : std::nullopt;
    if (!sum) {
      return std::nullopt;
    }
    last = *sum;
  }
  const auto count = CheckedAdd(last, 1);
  return count ? CheckedMultiply(*count, element_bytes) : std::nullopt;
}

absl::Status CheckPlace(const Checkpoint& checkpoint, const StoredTensor& tensor, const Piece& piece) {
  const CheckpointFile& file = checkpoint.files[static_cast<std::size_t>(piece.file)];
  const auto span =
      piece.strides.size() == piece.sizes.size() ? SpanOf(piece, InfoOf(tensor.dtype).bytes) : std::nullopt;
  const auto end = span && piece.position >= 0 ? CheckedAdd(piece.position, *span) : std::nullopt;
  if (!end || *span > piece.length || *end > file.identity.size) {
    return Error(Reason::kCheckpointCorrupt, "a piece of the tensor does not lie in its file",
                 {.tensor = tensor.name, .file = file.name, .offset = piece.position});
  }
  return absl::OkStatus();
}

// The multi-index of the `linear`-th element of `region`, in the stored tensor's axes.
Shape ElementAt(const SourceRegion& region, std::int64_t linear) {
  Shape element = region.offsets;
  for (std::size_t axis = element.size(); axis-- > 0;) {
    element[axis] += linear % region.sizes[axis];
    linear /= region.sizes[axis];
  }
  return element;
}

// How many elements from `element` on follow each other both in `region` and in `piece`'s storage. Axes are taken from
// the innermost outwards for as long as region and piece cover them alike.
std::int64_t RunLength(const SourceRegion& region, const Piece& piece, const Shape& element) {
  std::int64_t length = 1;
  std::int64_t volume = 1;  // of the axes taken so far
  std::int64_t within = 0;  // position of `element` in them
  for (std::size_t axis = element.size(); axis-- > 0;) {
    if (piece.sizes[axis] > 1 && piece.strides[axis] != volume) {
      break;
    }
    const std::int64_t end =
        std::min(region.offsets[axis] + region.sizes[axis], piece.offsets[axis] + piece.sizes[axis]);
    length = (end - element[axis]) * volume - within;
    if (region.offsets[axis] != piece.offsets[axis] || region.sizes[axis] != piece.sizes[axis]) {
      break;
    }
    within += (element[axis] - piece.offsets[axis]) * volume;
    volume *= piece.sizes[axis];
  }
  return length;
}

}  // namespace

std::span<const std::byte, kMaximumZeros> Zeros() {
  static constexpr std::array<std::byte, kMaximumZeros> kBytes = {};
  return kBytes;
}

absl::StatusOr<std::int64_t> RegionReader::Read(const OutputTensor& tensor, std::int64_t first, std::int64_t count,
                                                std::size_t maximum_runs, std::vector<SourceRun>& runs) {
  SetCurrent(tensor);
  auto region =
      static_cast<std::size_t>(std::distance(region_ends_.begin(), std::ranges::upper_bound(region_ends_, first)));
  const std::size_t runs_before = runs.size();
  std::int64_t done = 0;
  while (done < count) {
    if (region >= region_ends_.size()) {
      return Error(Reason::kInternal, "the plan's regions hold fewer elements than the tensor",
                   {.tensor = tensor.name});
    }
    const std::int64_t region_begin = region == 0 ? 0 : region_ends_[region - 1];
    SLIPWAY_ASSIGN_OR_RETURN(Run run, LongestRun(tensor, tensor.regions[region], first + done - region_begin));
    const std::int64_t element_bytes = run.source.bytes / run.elements;
    run.elements = std::min(run.elements, count - done);
    run.source.bytes = run.elements * element_bytes;
    const bool follows = runs.size() > runs_before && runs.back().file == run.source.file &&
                         runs.back().position + runs.back().bytes == run.source.position;
    if (follows) {
      runs.back().bytes += run.source.bytes;
    } else if (runs.size() - runs_before == maximum_runs) {
      return done;
    } else {
      runs.push_back(run.source);
    }
    done += run.elements;
    while (region < region_ends_.size() && region_ends_[region] <= first + done) {
      ++region;
    }
  }
  return done;
}

absl::StatusOr<SourceRows> RegionReader::ReadRows(const OutputTensor& tensor, std::int64_t first, std::int64_t columns,
                                                  std::int64_t step, std::int64_t count) {
  SetCurrent(tensor);
  const auto index =
      static_cast<std::size_t>(std::distance(region_ends_.begin(), std::ranges::upper_bound(region_ends_, first)));
  if (index >= region_ends_.size()) {
    return Error(Reason::kInternal, "the plan's regions hold fewer elements than the tensor", {.tensor = tensor.name});
  }
  const SourceRegion& region = tensor.regions[index];
  if (region.tensor == kZeros) {
    return Error(Reason::kInternal, "the plan permutes zeros", {.tensor = tensor.name});
  }
  const std::int64_t element = first - (index == 0 ? 0 : region_ends_[index - 1]);
  SLIPWAY_ASSIGN_OR_RETURN(const Place place, PlaceOf(region, element));
  const Piece& piece = *place.piece;
  SourceRows rows{.file = piece.file,
                  .position = place.position,
                  .count = 1,
                  .columns = std::min(columns, RunLength(region, piece, place.at))};
  if (count == 1) {
    return rows;
  }
  // Where the step is one along an axis, the next rows are the next indices of that axis.
  std::int64_t stride = 1;
  for (std::size_t axis = place.at.size(); axis-- > 0 && stride <= step; stride *= region.sizes[axis]) {
    if (stride == step && region.sizes[axis] > 1) {
      const std::int64_t end =
          std::min(region.offsets[axis] + region.sizes[axis], piece.offsets[axis] + piece.sizes[axis]);
      rows.count = std::min(count, end - place.at[axis]);
      rows.columns = std::min(rows.columns, step - element % step);  // no row reaches into the next index
      rows.step = piece.strides[axis] * place.element_bytes;
      break;
    }
  }
  return rows;
}

absl::StatusOr<RegionReader::Place> RegionReader::PlaceOf(const SourceRegion& region, std::int64_t element) {
  const StoredTensor& tensor = checkpoint_.tensors[static_cast<std::size_t>(region.tensor)];
  Place place{.at = ElementAt(region, element), .element_bytes = InfoOf(tensor.dtype).bytes};
  const std::int32_t index = IndexOf(region.tensor).Find(place.at);
  if (index < 0) {
    return Error(Reason::kInternal, "the plan names elements that no piece of the tensor has", {.tensor = tensor.name});
  }
  SLIPWAY_ASSIGN_OR_RETURN(place.piece, Locate(region.tensor, index));
  std::int64_t offset = 0;
  for (std::size_t axis = 0; axis < place.at.size(); ++axis) {
    offset += (place.at[axis] - place.piece->offsets[axis]) * place.piece->strides[axis];
  }
  place.position = place.piece->position + offset * place.element_bytes;
  return place;
}

absl::StatusOr<RegionReader::Run> RegionReader::LongestRun(const OutputTensor& tensor, const SourceRegion& region,
                                                           std::int64_t element) {
  if (region.tensor == kZeros) {
    const std::int64_t element_bytes = InfoOf(tensor.transform.from).bytes;
    const std::int64_t elements = std::min(CheckedVolume(region.sizes).value_or(0) - element,
                                           static_cast<std::int64_t>(kMaximumZeros) / element_bytes);
    return Run{.source = {.file = kNoFile, .position = 0, .bytes = elements * element_bytes}, .elements = elements};
  }
  SLIPWAY_ASSIGN_OR_RETURN(const Place place, PlaceOf(region, element));
  const std::int64_t elements = RunLength(region, *place.piece, place.at);
  return Run{.source = {.file = place.piece->file, .position = place.position, .bytes = elements * place.element_bytes},
             .elements = elements};
}

absl::StatusOr<const Piece*> RegionReader::Locate(std::int32_t tensor, std::int32_t piece) {
  const std::uint64_t key = (static_cast<std::uint64_t>(tensor) << 32) | static_cast<std::uint32_t>(piece);
  if (const auto known = located_.find(key); known != located_.end()) {
    return &known->second;
  }
  const StoredTensor& stored = checkpoint_.tensors[static_cast<std::size_t>(tensor)];
  Piece located = stored.pieces[static_cast<std::size_t>(piece)];
  if (located.in_archive) {
    SLIPWAY_ASSIGN_OR_RETURN(located, LocateElements(checkpoint_, stored, located));
  }
  if (located.strides.empty()) {
    located.strides = ContiguousStrides(located.sizes);
  }
  SLIPWAY_RETURN_IF_ERROR(CheckPlace(checkpoint_, stored, located));
  if (located_.size() >= kMaximumLocatedPieces) {
    located_.clear();
  }
  return &located_.emplace(key, std::move(located)).first->second;
}

const PieceIndex& RegionReader::IndexOf(std::int32_t tensor) {
  const auto known = indices_.find(tensor);
  if (known != indices_.end()) {
    return known->second;
  }
  return indices_.emplace(tensor, PieceIndex(checkpoint_.tensors[static_cast<std::size_t>(tensor)])).first->second;
}

void RegionReader::SetCurrent(const OutputTensor& tensor) {
  if (current_ == &tensor) {
    return;
  }
  current_ = &tensor;
  region_ends_.clear();
  std::int64_t end = 0;
  for (const SourceRegion& region : tensor.regions) {
    end += CheckedVolume(region.sizes).value_or(0);
    region_ends_.push_back(end);
  }
}

}  // namespace slipway::engine
