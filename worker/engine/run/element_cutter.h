// Finds where elements of outputs, as they are without quantization, are read from, and takes that into segments.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/run/segment.h"
#include "worker/engine/transform/axis_permutation.h"
#include "worker/engine/transform/low_rank_update.h"
#include "worker/engine/transform/region_reader.h"

namespace slipway::engine {

// Not thread-safe. Refers to the plan.
class ElementCutter {
 public:
  // No segment gets more than `maximum_windows` bytes of windows.
  ElementCutter(const ExportPlan& plan, std::int64_t maximum_windows);

  // INTERNAL for a tensor that cannot be made.
  [[nodiscard]] absl::Status Check(const OutputTensor& tensor) const;

  // Where the axes of `tensor` are permuted, so that it is cut into boxes: its axes.
  static absl::StatusOr<std::optional<std::vector<PermutedAxis>>> PermutationOf(const OutputTensor& tensor);

  // Takes elements [first, first + count), count above 0 and what is behind `first` within the tensor, or as many of
  // them as there is room for, but whole bytes' worth of codes: sets the part's runs, `bytes`, `buffered` and what else
  // reading takes, all but `tensor`, `begins` and `ends`. Returns how many; 0 where the segment is full. What was taken
  // for nothing stays in it. Elements are taken in order. Errors as RegionReader.
  absl::StatusOr<std::int64_t> Take(Segment& segment, const OutputTensor& tensor, std::int64_t first,
                                    std::int64_t count, TensorPart& part);

  // The same of a tensor with permuted axes; it takes one box, of at most `count` elements. Without `must`, only where
  // that is worth a part; with it, always at least one element.
  absl::StatusOr<std::int64_t> TakeBox(Segment& segment, const OutputTensor& tensor,
                                       const std::vector<PermutedAxis>& axes, std::int64_t first, std::int64_t count,
                                       bool must, TensorPart& part);

  // Takes the given amaxes of `rows` rows of a quantized weight from `first_row` on into `part`; false where the
  // segment is full.
  absl::StatusOr<bool> TakeAmaxes(Segment& segment, const QuantizedWeight& weight, std::int64_t first_row,
                                  std::int64_t rows, TensorPart& part);

  // Files that segments have used so far, as indices into Checkpoint::files.
  [[nodiscard]] const std::vector<bool>& used_files() const { return used_files_; }

 private:
  // Takes the scales of `count` elements from `first` on, or of as many as have theirs together; returns of how many, 0
  // where the segment is full.
  absl::StatusOr<std::int64_t> TakeScales(Segment& segment, const OutputTensor& tensor, std::int64_t first,
                                          std::int64_t count, TensorPart& part);
  // Takes what of A and B the elements of `span` need; false where the segment is full.
  absl::StatusOr<bool> TakeFactors(Segment& segment, const UpdateSpan& span, TensorPart& part);
  // Takes `count` elements of a factor from `first` on; how many runs they are, or 0 where the segment is full.
  absl::StatusOr<std::size_t> TakeFactor(Segment& segment, RegionReader& reader, const OutputTensor& factor,
                                         std::int64_t first, std::int64_t count);
  // Makes what is read beside the elements ready for `tensor`.
  void SetCurrent(const OutputTensor& tensor);

  const ExportPlan& plan_;
  const std::int64_t maximum_windows_;
  RegionReader reader_;
  std::vector<bool> used_files_;
  std::vector<SourceRun> scratch_;
  const OutputTensor* current_ = nullptr;     // whose scales and factors these are:
  OutputTensor scale_tensor_;                 // the scales as an output of their own
  std::optional<RegionReader> scale_reader_;  // of scale_tensor_
  std::array<OutputTensor, 2> factors_;       // A and B, as outputs of their own
  std::array<std::optional<RegionReader>, 2> factor_readers_;
  const QuantizedWeight* current_weight_ = nullptr;  // whose amaxes these are:
  OutputTensor amax_tensor_;                         // as an output of their own
  std::optional<RegionReader> amax_reader_;
};

}  // namespace slipway::engine
