// Cuts one shard's file into segments, in file order: what each segment reads and from where.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/run/element_cutter.h"
#include "worker/engine/run/segment.h"

namespace slipway::engine {

// Not thread-safe. Refers to the plan.
class SegmentCutter {
 public:
  // Segments have at most `segment_bytes` bytes (or one element; the header comes on top), which must not exceed
  // kSegmentBytes; those of outputs whose axes are permuted three times as many, and those of quantized outputs are
  // made of at most so many bytes of values (or one block). memory() never exceeds MinimumMemoryBudget(plan).
  // With `stash`, scales that a ScaleStash keeps need no values.
  SegmentCutter(const ExportPlan& plan, std::int32_t shard, std::int64_t segment_bytes, bool stash = false);

  // The next segment, or nullopt after the last. Errors as RegionReader.
  absl::StatusOr<std::optional<Segment>> Next();

  // Files that segments have used so far, as indices into Checkpoint::files.
  [[nodiscard]] const std::vector<bool>& used_files() const { return elements_.used_files(); }

 private:
  // Takes more of the current tensor into `segment`; false where the segment is full.
  absl::StatusOr<bool> TakePart(Segment& segment);
  absl::StatusOr<bool> TakePlain(Segment& segment, const OutputTensor& tensor, std::int64_t room);
  absl::StatusOr<bool> TakePermuted(Segment& segment, const OutputTensor& tensor, const std::vector<PermutedAxis>& axes,
                                    std::int64_t room);
  absl::StatusOr<bool> TakeQuantized(Segment& segment, const OutputTensor& tensor, std::int64_t room);
  // Takes the values of elements [first, first + count) of a quantized weight, all of them; false where there is no
  // room for them.
  absl::StatusOr<bool> TakeValues(Segment& segment, const OutputTensor& values, std::int64_t first, std::int64_t count,
                                  TensorPart& part);
  // After `part` of the current tensor was taken.
  void Advance(Segment& segment, const TensorPart& part);

  const ExportPlan& plan_;
  const Shard& shard_;
  const std::int64_t segment_bytes_;
  const std::int64_t maximum_memory_;  // of a segment
  const std::vector<bool> stashed_;    // of the shard's tensors
  ElementCutter elements_;
  std::int64_t position_ = 0;      // in the file
  std::int32_t next_tensor_ = 0;   // of the shard's
  std::int64_t next_element_ = 0;  // of that tensor; of a quantized weight's values; a byte of what is generated
};

}  // namespace slipway::engine
