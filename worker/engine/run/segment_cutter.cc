#include "worker/engine/run/segment_cutter.h"

#include <algorithm>
#include <utility>

#include "common/checked_math.h"
#include "common/error.h"
#include "worker/engine/run/memory_needs.h"
#include "worker/engine/transform/block_scales.h"
#include "worker/engine/transform/element_transform.h"
#include "worker/engine/transform/low_rank_update.h"

namespace slipway::engine {
namespace {

constexpr std::size_t kMaximumRuns = 16'384;       // of a segment
constexpr std::size_t kMaximumWindows = 64;        // of a segment; a process can have a few thousand
constexpr std::int64_t kMaximumGap = 64 << 10;     // read over rather than mapped apart
constexpr std::int64_t kShortestDirectRun = 1024;  // on average; shorter runs are gathered in a buffer
constexpr std::int64_t kPage = 4096;

// A part whose axes are permuted may be as large as so many segments, for it maps little at a time.
constexpr std::int64_t kPermutedSegments = 3;
static_assert(kPermutedSegments * kSegmentBytes + kPermutationMemory <= kMaximumSegmentMemory);

std::int64_t MappedBytes(const WindowRange& window) {
  return (window.end + kPage - 1) / kPage * kPage - window.begin / kPage * kPage;
}

// Where `window` would be with `run` joined to it, or nullopt where they are too far apart.
std::optional<WindowRange> Joined(const WindowRange& window, const SourceRun& run) {
  const std::int64_t end = run.position + run.bytes;
  const bool near = run.position <= window.end + kMaximumGap && end >= window.begin - kMaximumGap;
  if (window.file != run.file || !near) {
    return std::nullopt;
  }
  return WindowRange{window.file, std::min(window.begin, run.position), std::max(window.end, end)};
}

// Adds `run`, and the window it needs, unless that would map too much.
bool AddRun(Segment& segment, const SourceRun& run) {
  if (segment.runs.size() >= kMaximumRuns) {
    return false;
  }
  std::size_t index = segment.windows.size();
  WindowRange window{run.file, run.position, run.position + run.bytes};
  std::int64_t more = MappedBytes(window);
  for (std::size_t candidate = segment.windows.size(); candidate-- > 0;) {
    if (const auto joined = Joined(segment.windows[candidate], run)) {
      more = MappedBytes(*joined) - MappedBytes(segment.windows[candidate]);
      window = *joined;
      index = candidate;
      break;
    }
  }
  if (segment.window_bytes + more > kMaximumSegmentWindows || index == kMaximumWindows) {
    return false;
  }
  if (index == segment.windows.size()) {
    segment.windows.push_back(window);
  } else {
    segment.windows[index] = window;
  }
  segment.window_bytes += more;
  segment.runs.push_back(run);
  segment.run_windows.push_back(static_cast<std::uint32_t>(index));
  return true;
}

bool CanMake(const ExportPlan& plan, const OutputTensor& tensor) {
  if (tensor.update) {
    return tensor.shape.size() == 2 && !tensor.scales && tensor.permutation.IsNone() &&
           CanMerge(*tensor.update, tensor.transform, tensor.shape[1]);
  }
  if (!tensor.scales) {
    return CanTransform(tensor.transform);
  }
  const auto scales = static_cast<std::size_t>(tensor.scales->region.tensor);
  return CanDequantize(tensor.transform, plan.checkpoint->tensors[scales].dtype);
}

}  // namespace

SegmentCutter::SegmentCutter(const ExportPlan& plan, std::int32_t shard, std::int64_t segment_bytes)
    : plan_(plan),
      shard_(plan.shards[static_cast<std::size_t>(shard)]),
      segment_bytes_(std::min(segment_bytes, kSegmentBytes)),
      reader_(*plan.checkpoint),
      used_files_(plan.checkpoint->files.size()) {}

absl::StatusOr<std::optional<Segment>> SegmentCutter::Next() {
  Segment segment;
  segment.file_offset = position_;
  if (position_ == 0) {
    segment.has_header = true;
    position_ = static_cast<std::int64_t>(shard_.header.size());
  }
  const std::int64_t begin = position_;
  while (next_tensor_ < shard_.tensor_count && position_ - begin < segment_bytes_) {
    SLIPWAY_ASSIGN_OR_RETURN(const bool more, TakePart(segment));
    if (!more) {
      break;
    }
  }
  segment.bytes = position_ - segment.file_offset;
  if (segment.bytes > 0 || !segment.parts.empty()) {
    return segment;
  }
  if (position_ != shard_.bytes) {
    return Error(Reason::kInternal, "the plan's tensors do not fill the file", {.file = shard_.file});
  }
  return std::nullopt;
}

absl::StatusOr<bool> SegmentCutter::TakePart(Segment& segment) {
  const std::int32_t index = shard_.first_tensor + next_tensor_;
  const OutputTensor& tensor = plan_.tensors[static_cast<std::size_t>(index)];
  if (next_element_ == 0 && (!CanMake(plan_, tensor) || tensor.file_offset != position_)) {
    return Error(Reason::kInternal, "the plan's tensor cannot be written", {.tensor = tensor.name});
  }
  const std::int64_t output_element = InfoOf(tensor.transform.to).bytes;
  const std::int64_t source_element = InfoOf(tensor.transform.from).bytes;
  const std::int64_t elements = tensor.bytes / output_element;
  const std::int64_t room = segment.file_offset + segment_bytes_ - position_ +
                            (segment.has_header ? static_cast<std::int64_t>(shard_.header.size()) : 0);
  if (!tensor.permutation.IsNone() && elements > 0) {
    const auto axes = OutputAxes(tensor.permutation, elements);
    if (!axes) {
      return Error(Reason::kInternal, "the plan's permutation is none", {.tensor = tensor.name});
    }
    if (axes->size() > 1) {
      return TakePermutedPart(segment, tensor, *axes, std::max<std::int64_t>(room / output_element, 1));
    }
  }
  std::int64_t wanted = std::min(elements - next_element_, std::max<std::int64_t>(room / output_element, 1));
  TensorPart part{.tensor = index, .begins = next_element_ == 0, .first_element = next_element_};
  if (tensor.scales && wanted > 0) {
    wanted = CountWithinScales(tensor, next_element_, wanted);
    SLIPWAY_ASSIGN_OR_RETURN(const bool taken, TakeScales(segment, tensor, wanted, part));
    if (!taken) {
      return false;
    }
  }
  if (tensor.update && wanted > 0) {
    const std::int64_t columns = tensor.shape[1];
    wanted = std::min(wanted, MaximumMergedRows(*tensor.update) * columns - next_element_ % columns);
    SLIPWAY_ASSIGN_OR_RETURN(const bool taken, TakeFactors(segment, tensor, wanted, part));
    // A run is taken whole or not at all: what the factors left of the windows must do for one.
    const std::int64_t left = kMaximumSegmentWindows - segment.window_bytes - kMaximumGap - 2 * kPage;
    if (!taken || left < source_element) {
      return false;
    }
    wanted = std::min(wanted, left / source_element);
  }
  part.first_run = segment.runs.size();
  scratch_.clear();
  SLIPWAY_RETURN_IF_ERROR(reader_.Read(tensor, next_element_, wanted, kMaximumRuns, scratch_).status());
  bool full = false;
  for (const SourceRun& run : scratch_) {
    if (!AddRun(segment, run)) {
      full = true;
      break;
    }
    used_files_[static_cast<std::size_t>(run.file)] = true;
    next_element_ += run.bytes / source_element;
    part.bytes += run.bytes / source_element * output_element;
    ++part.run_count;
  }
  part.ends = next_element_ == elements;
  if (part.run_count == 0 && !part.ends) {
    return false;
  }
  const bool short_runs =
      part.run_count > 1 && part.bytes < static_cast<std::int64_t>(part.run_count) * kShortestDirectRun;
  part.buffered = !tensor.transform.IsCopy() || short_runs || tensor.update.has_value();
  if (tensor.update) {
    segment.factor_bytes = std::max(segment.factor_bytes, MergeMemory(*tensor.update, tensor.shape[1]));
  }
  Advance(segment, part);
  return !full;
}

absl::StatusOr<bool> SegmentCutter::TakePermutedPart(Segment& segment, const OutputTensor& tensor,
                                                     std::span<const PermutedAxis> axes, std::int64_t room) {
  const std::int64_t element_bytes = InfoOf(tensor.transform.to).bytes;
  const bool fresh = segment.parts.empty();
  const std::int64_t more_memory = segment.permuted.empty() ? kPermutationMemory : 0;
  // The elements of one part lie far apart in the files, which are gone through once a part: what does not fit into
  // this segment as a whole gets one of its own, and that may be larger.
  if (!fresh && (tensor.bytes / element_bytes - next_element_ > room ||
                 segment.window_bytes + more_memory > kMaximumSegmentWindows)) {
    return false;
  }
  PermutedBox box =
      LargestBox(axes, next_element_,
                 fresh ? std::max<std::int64_t>(kPermutedSegments * segment_bytes_ / element_bytes, 1) : room);
  SLIPWAY_ASSIGN_OR_RETURN(auto cut, CutPermutedPart(reader_, tensor, box));
  while (fresh && !cut) {
    box = LargestBox(axes, next_element_, std::max<std::int64_t>(box.elements / 2, 1));
    SLIPWAY_ASSIGN_OR_RETURN(cut, CutPermutedPart(reader_, tensor, box));
  }
  if (!cut || segment.permuted_rows + cut->rows.size() > kMaximumPermutedRows) {
    return false;
  }
  for (const PermutedRows& rows : cut->rows) {
    used_files_[static_cast<std::size_t>(rows.source.file)] = true;
  }
  segment.window_bytes += more_memory;
  segment.permuted_rows += cut->rows.size();
  TensorPart part{.tensor = shard_.first_tensor + next_tensor_,
                  .first_run = segment.runs.size(),
                  .bytes = box.elements * element_bytes,
                  .begins = next_element_ == 0,
                  .buffered = true,
                  .permuted = segment.permuted.size()};
  segment.permuted.push_back(*std::move(cut));
  next_element_ += box.elements;
  part.ends = next_element_ == tensor.bytes / element_bytes;
  Advance(segment, part);
  return true;
}

void SegmentCutter::Advance(Segment& segment, const TensorPart& part) {
  segment.buffer_bytes += part.buffered ? part.bytes : 0;
  segment.parts.push_back(part);
  position_ += part.bytes;
  if (part.ends) {
    next_element_ = 0;
    ++next_tensor_;
  }
}

absl::StatusOr<bool> SegmentCutter::TakeScales(Segment& segment, const OutputTensor& tensor, std::int64_t count,
                                               TensorPart& part) {
  if (next_element_ == 0) {
    scale_tensor_.name = tensor.name;
    scale_tensor_.regions = {tensor.scales->region};
    scale_reader_.emplace(*plan_.checkpoint);
  }
  const ScaleRange range = ScalesOf(tensor, next_element_, count);
  scratch_.clear();
  SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t found,
                           scale_reader_->Read(scale_tensor_, range.first, range.count, 1, scratch_));
  if (found != range.count) {
    return Error(Reason::kInternal, "its scales are scattered in the checkpoint", {.tensor = tensor.name});
  }
  part.scale_run = segment.runs.size();
  part.first_scale = range.first;
  used_files_[static_cast<std::size_t>(scratch_.front().file)] = true;
  return AddRun(segment, scratch_.front());
}

absl::StatusOr<bool> SegmentCutter::TakeFactors(Segment& segment, const OutputTensor& tensor, std::int64_t count,
                                                TensorPart& part) {
  const LowRankUpdate& update = *tensor.update;
  if (next_element_ == 0) {
    factors_[0].name = tensor.name;
    factors_[0].regions = {update.a};
    factors_[1].name = tensor.name;
    factors_[1].regions = update.b;
    for (std::optional<RegionReader>& reader : factor_readers_) {
      reader.emplace(*plan_.checkpoint);
    }
  }
  const std::int64_t columns = tensor.shape[1];
  const std::int64_t first_row = next_element_ / columns;
  const std::int64_t rows = (next_element_ + count - 1) / columns + 1 - first_row;
  part.factor_run = segment.runs.size();
  SLIPWAY_ASSIGN_OR_RETURN(part.a_run_count,
                           TakeFactor(segment, *factor_readers_[0], factors_[0], 0, update.rank * columns));
  if (part.a_run_count == 0) {
    return false;
  }
  SLIPWAY_ASSIGN_OR_RETURN(part.b_run_count, TakeFactor(segment, *factor_readers_[1], factors_[1],
                                                        first_row * update.rank, rows * update.rank));
  return part.b_run_count > 0;
}

absl::StatusOr<std::size_t> SegmentCutter::TakeFactor(Segment& segment, RegionReader& reader,
                                                      const OutputTensor& factor, std::int64_t first,
                                                      std::int64_t count) {
  scratch_.clear();
  SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t found, reader.Read(factor, first, count, kMaximumRuns, scratch_));
  if (found != count) {
    return Error(Reason::kInternal, "its adapter is scattered in the checkpoint", {.tensor = factor.name});
  }
  for (const SourceRun& run : scratch_) {
    if (!AddRun(segment, run)) {
      return 0;
    }
    used_files_[static_cast<std::size_t>(run.file)] = true;
  }
  return scratch_.size();
}

}  // namespace slipway::engine
