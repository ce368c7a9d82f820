// Cuts one shard's file into segments, in file order: what each segment reads and from where.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/run/permuted_part.h"
#include "worker/engine/transform/axis_permutation.h"
#include "worker/engine/transform/region_reader.h"

namespace slipway::engine {

// Part of one output tensor in a segment.
struct TensorPart {
  std::int32_t tensor = 0;  // index into ExportPlan::tensors
  std::size_t first_run = 0;
  std::size_t run_count = 0;
  std::int64_t bytes = 0;  // in the output
  bool begins = false;     // with the tensor's first byte
  bool ends = false;       // with its last
  bool buffered = false;   // goes through a buffer: transformed, or gathered from many short runs, or permuted
  std::optional<std::size_t> permuted = std::nullopt;  // index into Segment::permuted; such a part has no runs
  std::int64_t first_element = 0;
  // Of tensors with block scales: those that the part's elements need.
  std::size_t scale_run = 0;  // in Segment::runs
  std::int64_t first_scale = 0;
  // Of tensors with a low-rank update: runs of A and, behind them, of B's rows from that of first_element on.
  std::size_t factor_run = 0;  // in Segment::runs
  std::size_t a_run_count = 0;
  std::size_t b_run_count = 0;
};

// A range of one source file that a segment maps.
struct WindowRange {
  std::int32_t file = 0;
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

struct Segment {
  std::int64_t file_offset = 0;
  std::int64_t bytes = 0;
  bool has_header = false;  // the shard's header comes before the parts
  std::vector<TensorPart> parts;
  std::vector<SourceRun> runs;             // of all parts, in output order; scales and factors before what they are for
  std::vector<std::uint32_t> run_windows;  // index into windows, one a run
  std::vector<WindowRange> windows;
  std::vector<PermutedPart> permuted;
  std::size_t permuted_rows = 0;  // of all of them
  std::int64_t window_bytes = 0;  // whole pages; with what loading permuted parts takes
  std::int64_t buffer_bytes = 0;
  std::int64_t factor_bytes = 0;  // of one part's factors in FP32, the largest

  [[nodiscard]] std::int64_t memory() const { return window_bytes + buffer_bytes + factor_bytes; }
};

// Not thread-safe. Refers to the plan.
class SegmentCutter {
 public:
  // Segments have at most `segment_bytes` bytes (or one element; the header comes on top), which must not exceed
  // kSegmentBytes; those of outputs whose axes are permuted three times as many. memory() never exceeds
  // MinimumMemoryBudget(plan).
  SegmentCutter(const ExportPlan& plan, std::int32_t shard, std::int64_t segment_bytes);

  // The next segment, or nullopt after the last. Errors as RegionReader.
  absl::StatusOr<std::optional<Segment>> Next();

  // Files that segments have used so far, as indices into Checkpoint::files.
  [[nodiscard]] const std::vector<bool>& used_files() const { return used_files_; }

 private:
  // Takes more of the current tensor into `segment`; false where the segment is full.
  absl::StatusOr<bool> TakePart(Segment& segment);
  // The same of a tensor whose axes, `axes`, are permuted; `room` is in elements.
  absl::StatusOr<bool> TakePermutedPart(Segment& segment, const OutputTensor& tensor,
                                        std::span<const PermutedAxis> axes, std::int64_t room);
  // After `part` of the current tensor was taken.
  void Advance(Segment& segment, const TensorPart& part);
  // Takes the scales of `count` elements from next_element_ on; false where the segment is full.
  absl::StatusOr<bool> TakeScales(Segment& segment, const OutputTensor& tensor, std::int64_t count, TensorPart& part);
  // Takes A and the rows of B for `count` elements from next_element_ on; false where the segment is full.
  absl::StatusOr<bool> TakeFactors(Segment& segment, const OutputTensor& tensor, std::int64_t count, TensorPart& part);
  // Takes `count` elements of a factor from `first` on; how many runs they are, or 0 where the segment is full.
  absl::StatusOr<std::size_t> TakeFactor(Segment& segment, RegionReader& reader, const OutputTensor& factor,
                                         std::int64_t first, std::int64_t count);

  const ExportPlan& plan_;
  const Shard& shard_;
  const std::int64_t segment_bytes_;
  RegionReader reader_;
  std::vector<bool> used_files_;
  std::vector<SourceRun> scratch_;
  OutputTensor scale_tensor_;                 // the scales of the current tensor as an output of their own
  std::optional<RegionReader> scale_reader_;  // of scale_tensor_
  std::array<OutputTensor, 2> factors_;       // A and B of the current tensor, as outputs of their own
  std::array<std::optional<RegionReader>, 2> factor_readers_;
  std::int64_t position_ = 0;      // in the file
  std::int32_t next_tensor_ = 0;   // of the shard's
  std::int64_t next_element_ = 0;  // of that tensor
};

}  // namespace slipway::engine
