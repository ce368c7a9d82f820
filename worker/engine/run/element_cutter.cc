#include "worker/engine/run/element_cutter.h"

#include <algorithm>
#include <utility>

#include "common/error.h"
#include "worker/engine/run/memory_needs.h"
#include "worker/engine/transform/block_scales.h"
#include "worker/engine/transform/column_factors.h"
#include "worker/engine/transform/element_transform.h"
#include "worker/engine/transform/low_rank_update.h"

namespace slipway::engine {
namespace {

constexpr std::int64_t kShortestDirectRun = 1024;   // on average; shorter runs are gathered in a buffer
constexpr std::size_t kMaximumScaleRuns = 4096;     // of a part
constexpr std::int64_t kFactorMargin = 96LL << 10;  // of windows: what a run may be read with that is not in it

bool CanMake(const ExportPlan& plan, const OutputTensor& tensor) {
  if (tensor.column_factors != nullptr && !CanScaleColumns(tensor)) {
    return false;
  }
  if (tensor.update) {
    return tensor.shape.size() == 2 && !tensor.scales && tensor.permutation.IsNone() &&
           CanMerge(*tensor.update, tensor.transform, tensor.shape[1]);
  }
  if (!tensor.scales) {
    return CanTransform(tensor.transform);
  }
  if (tensor.shape.size() != 2 || tensor.scales->regions.empty() || tensor.shape[1] % ElementsPerStored(tensor) != 0 ||
      tensor.scales->columns % ElementsPerStored(tensor) != 0) {
    return false;
  }
  const auto scales = static_cast<std::size_t>(tensor.scales->regions.front().tensor);
  return CanDequantize(tensor.transform, plan.checkpoint->tensors[scales].dtype);
}

std::int64_t OutputBytes(const OutputTensor& tensor) { return InfoOf(tensor.transform.to).bytes; }

}  // namespace

ElementCutter::ElementCutter(const ExportPlan& plan, std::int64_t maximum_windows)
    : plan_(plan),
      maximum_windows_(maximum_windows),
      reader_(*plan.checkpoint),
      used_files_(plan.checkpoint->files.size()) {}

absl::Status ElementCutter::Check(const OutputTensor& tensor) const {
  return CanMake(plan_, tensor)
             ? absl::OkStatus()
             : Error(Reason::kInternal, "the plan's tensor cannot be written", {.tensor = tensor.name});
}

absl::StatusOr<std::optional<std::vector<PermutedAxis>>> ElementCutter::PermutationOf(const OutputTensor& tensor) {
  const std::int64_t elements = tensor.bytes / OutputBytes(tensor);
  if (tensor.permutation.IsNone() || elements == 0) {
    return std::nullopt;
  }
  auto axes = OutputAxes(tensor.permutation, elements);
  if (!axes) {
    return Error(Reason::kInternal, "the plan's permutation is none", {.tensor = tensor.name});
  }
  return axes->size() > 1 ? std::move(axes) : std::nullopt;
}

void ElementCutter::SetCurrent(const OutputTensor& tensor) {
  if (current_ == &tensor) {
    return;
  }
  current_ = &tensor;
  if (tensor.scales) {
    scale_tensor_.name = tensor.name;
    scale_tensor_.regions = tensor.scales->regions;
    scale_reader_.emplace(*plan_.checkpoint);
  }
  if (tensor.update) {
    factors_[0].name = tensor.name;
    factors_[0].regions = tensor.update->a;
    factors_[1].name = tensor.name;
    factors_[1].regions = tensor.update->b;
    for (std::optional<RegionReader>& reader : factor_readers_) {
      reader.emplace(*plan_.checkpoint);
    }
  }
}

absl::StatusOr<std::int64_t> ElementCutter::Take(Segment& segment, const OutputTensor& tensor, std::int64_t first,
                                                 std::int64_t count, TensorPart& part) {
  const std::int64_t source_element = InfoOf(tensor.transform.from).bytes;
  SetCurrent(tensor);
  part.first_element = first;
  const std::int64_t per_stored = ElementsPerStored(tensor);  // rows hold whole ones
  std::optional<SegmentMark> mark;
  if (tensor.scales) {
    count = std::max(CountWithinScales(tensor, first, count) / per_stored * per_stored, per_stored);
    mark.emplace(segment);
    const std::int64_t wanted = count;
    SLIPWAY_ASSIGN_OR_RETURN(count, TakeScales(segment, tensor, first, count, part));
    if (count == 0 && (!segment.parts.empty() || wanted == per_stored)) {
      return 0;
    }
    if (count == 0) {
      mark->Restore(segment);
      return Take(segment, tensor, first, wanted / 2, part);
    }
  }
  UpdateSpan span{.count = count, .updated = false};
  if (tensor.update) {
    span = SpanOf(*tensor.update, tensor.shape[1], first, count);
    count = span.count;
  }
  if (span.updated) {
    SLIPWAY_ASSIGN_OR_RETURN(const bool taken, TakeFactors(segment, span, part));
    // A run is taken whole or not at all: what the factors left of the windows must do for one.
    const std::int64_t left = maximum_windows_ - segment.window_bytes - kFactorMargin;
    if (!taken || left < source_element) {
      return 0;
    }
    count = std::min(count, left / source_element);
  }
  part.first_run = segment.runs.size();
  scratch_.clear();
  SLIPWAY_RETURN_IF_ERROR(
      reader_.Read(tensor, first / per_stored, count / per_stored, kMaximumRuns, scratch_).status());
  std::int64_t elements = 0;
  for (const SourceRun& run : scratch_) {
    if (!AddRun(segment, run, maximum_windows_)) {
      break;
    }
    if (run.file != kNoFile) {
      used_files_[static_cast<std::size_t>(run.file)] = true;
    }
    elements += run.bytes / source_element * per_stored;
    ++part.run_count;
  }
  if (elements == 0 && tensor.scales && segment.parts.empty() && count > per_stored) {
    mark->Restore(segment);  // scales took all the room: those of fewer elements
    part.run_count = 0;
    return Take(segment, tensor, first, count / 2, part);
  }
  part.bytes = elements * OutputBytes(tensor);
  const bool short_runs =
      part.run_count > 1 && part.bytes < static_cast<std::int64_t>(part.run_count) * kShortestDirectRun;
  part.buffered = !tensor.transform.IsCopy() || short_runs || span.updated || tensor.column_factors != nullptr;
  if (tensor.scales) {
    segment.factor_bytes =
        std::max(segment.factor_bytes, ScalesOf(tensor, first, count).count * static_cast<std::int64_t>(sizeof(float)));
  }
  if (span.updated && elements > 0) {
    segment.factor_bytes = std::max(segment.factor_bytes, MergeMemory(*tensor.update, tensor.shape[1]));
  }
  return elements;
}

absl::StatusOr<std::int64_t> ElementCutter::TakeBox(Segment& segment, const OutputTensor& tensor,
                                                    const std::vector<PermutedAxis>& axes, std::int64_t first,
                                                    std::int64_t count, bool must, TensorPart& part) {
  const std::int64_t more_memory = segment.permuted.empty() ? kPermutationMemory : 0;
  if (!must && segment.window_bytes + more_memory > maximum_windows_) {
    return 0;
  }
  PermutedBox box = LargestBox(axes, first, count);
  SLIPWAY_ASSIGN_OR_RETURN(auto cut, CutPermutedPart(reader_, tensor, box));
  while (must && !cut) {
    box = LargestBox(axes, first, std::max<std::int64_t>(box.elements / 2, 1));
    SLIPWAY_ASSIGN_OR_RETURN(cut, CutPermutedPart(reader_, tensor, box));
  }
  if (!cut || segment.permuted_rows + cut->rows.size() > kMaximumPermutedRows) {
    return 0;
  }
  for (const PermutedRows& rows : cut->rows) {
    used_files_[static_cast<std::size_t>(rows.source.file)] = true;
  }
  segment.window_bytes += more_memory;
  segment.permuted_rows += cut->rows.size();
  part.first_run = segment.runs.size();
  part.first_element = first;
  part.bytes = box.elements * OutputBytes(tensor);
  part.buffered = true;
  part.permuted = segment.permuted.size();
  segment.permuted.push_back(*std::move(cut));
  return box.elements;
}

absl::StatusOr<std::int64_t> ElementCutter::TakeScales(Segment& segment, const OutputTensor& tensor, std::int64_t first,
                                                       std::int64_t count, TensorPart& part) {
  const std::int64_t least = ElementsPerStored(tensor);
  ScaleRange range = ScalesOf(tensor, first, count);
  for (;; range = ScalesOf(tensor, first, count)) {
    scratch_.clear();
    SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t found,
                             scale_reader_->Read(scale_tensor_, range.first, range.count, kMaximumScaleRuns, scratch_));
    if (found == range.count) {
      break;
    }
    if (count == least) {
      return Error(Reason::kInternal, "its scales are scattered in the checkpoint", {.tensor = tensor.name});
    }
    count = std::max(count / 2 / least * least, least);
  }
  part.scale_run = segment.runs.size();
  part.scale_run_count = scratch_.size();
  part.first_scale = range.first;
  for (const SourceRun& run : scratch_) {
    if (!AddRun(segment, run, maximum_windows_)) {
      return 0;
    }
    used_files_[static_cast<std::size_t>(run.file)] = true;
  }
  return count;
}

absl::StatusOr<bool> ElementCutter::TakeFactors(Segment& segment, const UpdateSpan& span, TensorPart& part) {
  part.factor_run = segment.runs.size();
  part.updated_row = span.first_row;
  SLIPWAY_ASSIGN_OR_RETURN(part.a_run_count,
                           TakeFactor(segment, *factor_readers_[0], factors_[0], span.a_first, span.a_count));
  if (part.a_run_count == 0) {
    return false;
  }
  SLIPWAY_ASSIGN_OR_RETURN(part.b_run_count,
                           TakeFactor(segment, *factor_readers_[1], factors_[1], span.b_first, span.b_count));
  return part.b_run_count > 0;
}

absl::StatusOr<bool> ElementCutter::TakeAmaxes(Segment& segment, const QuantizedWeight& weight, std::int64_t first_row,
                                               std::int64_t rows, TensorPart& part) {
  if (current_weight_ != &weight) {
    current_weight_ = &weight;
    amax_tensor_.name = weight.values.name;
    amax_tensor_.regions = weight.amaxes->regions;
    amax_reader_.emplace(*plan_.checkpoint);
  }
  const std::int64_t columns = weight.amaxes->columns;
  part.amax_run = segment.runs.size();
  SLIPWAY_ASSIGN_OR_RETURN(part.amax_run_count,
                           TakeFactor(segment, *amax_reader_, amax_tensor_, first_row * columns, rows * columns));
  return part.amax_run_count > 0;
}

absl::StatusOr<std::size_t> ElementCutter::TakeFactor(Segment& segment, RegionReader& reader,
                                                      const OutputTensor& factor, std::int64_t first,
                                                      std::int64_t count) {
  scratch_.clear();
  SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t found, reader.Read(factor, first, count, kMaximumRuns, scratch_));
  if (found != count) {
    return Error(Reason::kInternal, "what belongs to it is scattered in the checkpoint", {.tensor = factor.name});
  }
  for (const SourceRun& run : scratch_) {
    if (!AddRun(segment, run, maximum_windows_)) {
      return 0;
    }
    used_files_[static_cast<std::size_t>(run.file)] = true;
  }
  return scratch_.size();
}

}  // namespace slipway::engine
