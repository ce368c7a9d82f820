// From elements of an output tensor to the byte runs of checkpoint files that hold them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/transform/piece_index.h"

namespace slipway::engine {

// Instead of a file: zeros.
inline constexpr std::int32_t kNoFile = -1;
// Most bytes of a run of zeros; all of them are this buffer.
inline constexpr std::size_t kMaximumZeros = std::size_t{64} << 10;
std::span<const std::byte, kMaximumZeros> Zeros();

// Elements that follow each other in the output and in one file.
struct SourceRun {
  std::int32_t file = 0;      // index into Checkpoint::files, or kNoFile
  std::int64_t position = 0;  // of the first byte
  std::int64_t bytes = 0;
};

// Rows of elements at equal distances in one file.
struct SourceRows {
  std::int32_t file = 0;      // index into Checkpoint::files
  std::int64_t position = 0;  // of the first row's first byte
  std::int64_t count = 0;
  std::int64_t columns = 0;  // elements of each
  std::int64_t step = 0;     // bytes from a row to the next
};

// Remembers what it found out about pieces and tensors: make one a shard. Not thread-safe. Refers to the checkpoint.
class RegionReader {
 public:
  explicit RegionReader(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  // Appends the runs of the elements [first, first + count) of `tensor`, in order and as long as they can be, to
  // `runs`, at most `maximum_runs` of them; returns how many elements they hold, at least 1 for a count above 0.
  // CHECKPOINT_* where a piece cannot be located or does not lie in its file, INTERNAL where the plan names elements
  // that no piece has.
  absl::StatusOr<std::int64_t> Read(const OutputTensor& tensor, std::int64_t first, std::int64_t count,
                                    std::size_t maximum_runs, std::vector<SourceRun>& runs);

  // Of `count` rows of `columns` elements, the i-th from element first + i * step of the regions' elements on: the
  // first rows and columns of them that lie in a file as rows, at least one of each. Requires columns <= step or a
  // count of 1. Errors as Read.
  absl::StatusOr<SourceRows> ReadRows(const OutputTensor& tensor, std::int64_t first, std::int64_t columns,
                                      std::int64_t step, std::int64_t count);

 private:
  // An element of a region and the piece that holds it.
  struct Place {
    Shape at;  // in the stored tensor's axes
    const Piece* piece = nullptr;
    std::int64_t element_bytes = 0;
    std::int64_t position = 0;  // in the file
  };
  struct Run {
    SourceRun source;
    std::int64_t elements = 0;
  };
  absl::StatusOr<Place> PlaceOf(const SourceRegion& region, std::int64_t element);
  // The longest run from the `element`-th element of `region` of `tensor` on.
  absl::StatusOr<Run> LongestRun(const OutputTensor& tensor, const SourceRegion& region, std::int64_t element);
  absl::StatusOr<const Piece*> Locate(std::int32_t tensor, std::int32_t piece);
  const PieceIndex& IndexOf(std::int32_t tensor);
  void SetCurrent(const OutputTensor& tensor);

  const Checkpoint& checkpoint_;
  const OutputTensor* current_ = nullptr;
  std::vector<std::int64_t> region_ends_;  // of current_: elements up to and with each region
  std::unordered_map<std::int32_t, PieceIndex> indices_;
  std::unordered_map<std::uint64_t, Piece> located_;  // by stored tensor and piece
};

}  // namespace slipway::engine
