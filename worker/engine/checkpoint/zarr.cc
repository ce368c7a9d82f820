#include "worker/engine/checkpoint/zarr.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "worker/engine/checkpoint/common_archive.h"
#include "worker/engine/checkpoint/coverage.h"
#include "worker/engine/checkpoint/file_table.h"
#include "worker/engine/checkpoint/ignored_tally.h"
#include "worker/engine/checkpoint/stored_names.h"
#include "worker/engine/checkpoint/zarr_array.h"

namespace slipway::engine {
namespace {

constexpr std::int64_t kMaximumDescriptionBytes = std::int64_t{1} << 20;

// The chunk of the tensor at `index` in the grid; at the far edges only a corner of what its file holds.
Piece PieceAt(const ZarrArray& array, const Shape& index) {
  Piece piece;
  std::int64_t stride = 1;
  std::int64_t last = 0;  // element of the file
  bool whole = true;
  piece.strides.resize(index.size());
  for (std::size_t axis = index.size(); axis-- > 0;) {
    piece.strides[axis] = stride;
    stride *= array.chunk[axis];  // at most the chunk's volume
  }
  for (std::size_t axis = 0; axis < index.size(); ++axis) {
    piece.offsets.push_back(index[axis] * array.chunk[axis]);
    piece.sizes.push_back(std::min(array.chunk[axis], array.shape[axis] - piece.offsets[axis]));
    last += (piece.sizes[axis] - 1) * piece.strides[axis];
    whole = whole && piece.sizes[axis] == array.chunk[axis];
  }
  if (whole) {
    piece.strides.clear();
  }
  piece.length = (last + 1) * InfoOf(array.dtype).bytes;
  return piece;
}

// The next index in C order.
void Advance(const Shape& grid, Shape& index) {
  for (std::size_t axis = grid.size(); axis-- > 0;) {
    if (++index[axis] < grid[axis]) {
      return;
    }
    index[axis] = 0;
  }
}

class ZarrReader {
 public:
  explicit ZarrReader(Checkpoint& checkpoint) : checkpoint_(checkpoint), files_(checkpoint) {}

  absl::Status Read(bool by_megatron) {
    SLIPWAY_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries, checkpoint_.directory->List());
    for (const DirectoryEntry& entry : entries) {
      if (entry.is_directory) {
        SLIPWAY_RETURN_IF_ERROR(AddWhere(ReadEntry(entry.name), {.tensor = entry.name, .file = PathOf(entry.name)}));
      }
    }
    CommonState common;
    if (by_megatron && checkpoint_.directory->Exists("common.pt")) {
      SLIPWAY_ASSIGN_OR_RETURN(const std::int32_t number, files_.NumberOf("common.pt"));
      const SourceFile& file = files_.At(number);
      SLIPWAY_RETURN_IF_ERROR(ReadCommonArchive(file, 0, file.size(), CommonForm::kDictionary, {}, common));
    }
    checkpoint_.layout = common.layout;
    checkpoint_.checkpoint_version = common.checkpoint_version;
    checkpoint_.arguments = std::make_shared<const nlohmann::json>(std::move(common.arguments));
    checkpoint_.ignored = ignored_.Take();
    return SortTensors();
  }

 private:
  [[nodiscard]] std::string PathOf(std::string_view name) const {
    return fmt::format("{}/{}", checkpoint_.directory->path(), name);
  }

  absl::Status ReadEntry(const std::string& name) {
    if (const std::string_view reason = ReasonToIgnoreName(name); !reason.empty()) {
      ignored_.Add(reason, name, std::nullopt);
      return absl::OkStatus();
    }
    if (const auto quantizer = ParseQuantizerTensorName(name)) {
      ignored_.Add(kQuantizerState, name, std::nullopt);
      return CheckNotNeeded(*quantizer);
    }
    SLIPWAY_ASSIGN_OR_RETURN(const auto directory, checkpoint_.directory->OpenDirectory(name));
    SLIPWAY_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries, directory->List());
    if (std::ranges::count(entries, ".zarray", &DirectoryEntry::name) != 0) {
      return ReadTensor(name, *directory, entries);
    }
    const auto chunk = std::ranges::find_if(entries, IsZarrChunkName, &DirectoryEntry::name);
    if (chunk != entries.end()) {
      return Error(Reason::kCheckpointCorrupt, fmt::format("there are chunks ({}) but no .zarray", chunk->name));
    }
    const bool is_object =
        std::ranges::any_of(entries, [](const DirectoryEntry& entry) { return entry.name.starts_with("shard_"); });
    ignored_.Add(is_object ? "objects that are no tensors" : "directories that hold no tensor", name, std::nullopt);
    return absl::OkStatus();
  }

  absl::Status ReadTensor(const std::string& name, const SourceDirectory& directory,
                          const std::vector<DirectoryEntry>& entries) {
    SLIPWAY_ASSIGN_OR_RETURN(const std::string text, directory.ReadSmallFile(".zarray", kMaximumDescriptionBytes));
    const absl::StatusOr<ZarrArray> array = ParseZarrArray(text);
    if (!array.ok()) {
      return AddWhere(array.status(), {.file = PathOf(name) + "/.zarray", .offset = 0});
    }
    StoredTensor tensor;
    tensor.name = std::string(WithoutWrappers(name));
    tensor.dtype = array->dtype;
    tensor.shape = array->shape;
    Shape index(array->grid.size(), 0);
    for (std::int64_t i = 0; i < array->chunk_count; ++i, Advance(array->grid, index)) {
      SLIPWAY_ASSIGN_OR_RETURN(Piece piece, FindChunk(name, *array, index));
      tensor.pieces.push_back(std::move(piece));
    }
    SLIPWAY_RETURN_IF_ERROR(CheckNoOtherChunks(name, *array, entries));
    SLIPWAY_RETURN_IF_ERROR(CheckCoverage(tensor));
    checkpoint_.tensors.push_back(std::move(tensor));
    return absl::OkStatus();
  }

  absl::StatusOr<Piece> FindChunk(const std::string& name, const ZarrArray& array, const Shape& index) {
    const std::string chunk = fmt::format("{}/{}", name, ZarrChunkName(index));
    const absl::StatusOr<std::int32_t> number = files_.NumberOf(chunk);
    if (!number.ok()) {
      return ReasonOf(number.status()) == Reason::kCheckpointNotFound
                 ? Error(Reason::kCheckpointCorrupt, "the file of a chunk is not there", {.file = PathOf(chunk)})
                 : number.status();
    }
    if (files_.At(*number).size() != array.chunk_bytes) {
      return Error(Reason::kCheckpointCorrupt,
                   fmt::format("the file of a chunk of [{}] has {} bytes, not {}", fmt::join(array.chunk, ", "),
                               files_.At(*number).size(), array.chunk_bytes),
                   {.file = PathOf(chunk), .offset = 0});
    }
    Piece piece = PieceAt(array, index);
    piece.file = *number;
    return piece;
  }

  // All chunks of the grid are there: if there are more, some lie outside of it.
  [[nodiscard]] absl::Status CheckNoOtherChunks(const std::string& name, const ZarrArray& array,
                                                const std::vector<DirectoryEntry>& entries) const {
    const auto count = std::ranges::count_if(entries, IsZarrChunkName, &DirectoryEntry::name);
    if (count == array.chunk_count) {
      return absl::OkStatus();
    }
    return Error(Reason::kCheckpointCorrupt,
                 fmt::format("the tensor of [{}] in chunks of [{}] has {} chunks, but there are files of {}",
                             fmt::join(array.shape, ", "), fmt::join(array.chunk, ", "), array.chunk_count, count),
                 {.file = PathOf(name)});
  }

  absl::Status SortTensors() {
    std::ranges::sort(checkpoint_.tensors, {}, &StoredTensor::name);
    const auto repeated = std::ranges::adjacent_find(checkpoint_.tensors, {}, &StoredTensor::name);
    if (repeated != checkpoint_.tensors.end()) {
      return Error(Reason::kTensorDuplicated, "two directories mean one tensor", {.tensor = repeated->name});
    }
    return absl::OkStatus();
  }

  Checkpoint& checkpoint_;
  FileTable files_;
  IgnoredTally ignored_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const Checkpoint>> ReadZarrCheckpoint(IterationDirectory found) {
  const bool by_megatron = found.framework.empty();
  std::shared_ptr<Checkpoint> checkpoint = CheckpointAt(std::move(found), CheckpointFormat::kZarr);
  if (checkpoint->writer.empty()) {
    checkpoint->writer = "Megatron-Core up to 0.10";
  }
  SLIPWAY_RETURN_IF_ERROR(ZarrReader(*checkpoint).Read(by_megatron));
  return checkpoint;
}

}  // namespace slipway::engine
