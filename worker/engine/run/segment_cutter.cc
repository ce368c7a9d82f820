#include "worker/engine/run/segment_cutter.h"

#include <algorithm>
#include <utility>

#include "common/error.h"
#include "worker/engine/run/memory_needs.h"
#include "worker/engine/run/quantized_bands.h"
#include "worker/engine/run/scale_stash.h"

namespace slipway::engine {
namespace {

// A part whose axes are permuted may be as large as so many segments, for it maps little at a time.
constexpr std::int64_t kPermutedSegments = 3;
static_assert(kPermutedSegments * kSegmentBytes + kPermutationMemory <= kMaximumSegmentMemory);

}  // namespace

SegmentCutter::SegmentCutter(const ExportPlan& plan, std::int32_t shard, std::int64_t segment_bytes, bool stash)
    : plan_(plan),
      shard_(plan.shards[static_cast<std::size_t>(shard)]),
      segment_bytes_(std::min(segment_bytes, kSegmentBytes)),
      maximum_memory_(MinimumMemoryBudget(plan)),
      stashed_(stash ? StashedScales(plan, shard_) : std::vector<bool>(static_cast<std::size_t>(shard_.tensor_count))),
      elements_(plan, kMaximumSegmentWindows + BandMemory(plan)) {}

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
  const OutputTensor& tensor =
      plan_.tensors[static_cast<std::size_t>(shard_.first_tensor) + static_cast<std::size_t>(next_tensor_)];
  const std::int64_t room = segment.file_offset + segment_bytes_ - position_ +
                            (segment.has_header ? static_cast<std::int64_t>(shard_.header.size()) : 0);
  if (next_element_ == 0 && tensor.file_offset != position_) {
    return Error(Reason::kInternal, "the plan's tensor is not where it is written", {.tensor = tensor.name});
  }
  if (tensor.quantized) {
    return TakeQuantized(segment, tensor, room);
  }
  if (next_element_ == 0) {
    SLIPWAY_RETURN_IF_ERROR(elements_.Check(tensor));
  }
  SLIPWAY_ASSIGN_OR_RETURN(const auto axes, ElementCutter::PermutationOf(tensor));
  return axes ? TakePermuted(segment, tensor, *axes, room) : TakePlain(segment, tensor, room);
}

absl::StatusOr<bool> SegmentCutter::TakePlain(Segment& segment, const OutputTensor& tensor, std::int64_t room) {
  const std::int64_t element_bytes = InfoOf(tensor.transform.to).bytes;
  const std::int64_t elements = tensor.bytes / element_bytes;
  const std::int64_t wanted = std::min(elements - next_element_, std::max<std::int64_t>(room / element_bytes, 1));
  TensorPart part{.tensor = shard_.first_tensor + next_tensor_,
                  .first_run = segment.runs.size(),
                  .begins = next_element_ == 0,
                  .first_element = next_element_};
  std::int64_t taken = 0;
  if (wanted > 0) {
    SLIPWAY_ASSIGN_OR_RETURN(taken, elements_.Take(segment, tensor, next_element_, wanted, part));
  }
  next_element_ += taken;
  part.ends = next_element_ == elements;
  if (taken == 0 && !part.ends) {
    return false;
  }
  Advance(segment, part);
  return taken == wanted || tensor.scales || tensor.update;
}

absl::StatusOr<bool> SegmentCutter::TakePermuted(Segment& segment, const OutputTensor& tensor,
                                                 const std::vector<PermutedAxis>& axes, std::int64_t room) {
  const std::int64_t element_bytes = InfoOf(tensor.transform.to).bytes;
  const std::int64_t elements = tensor.bytes / element_bytes;
  const bool fresh = segment.parts.empty();
  // The elements of one part lie far apart in the files, which are gone through once a part: what does not fit into
  // this segment as a whole gets one of its own, and that may be larger.
  if (!fresh && elements - next_element_ > room / element_bytes) {
    return false;
  }
  const std::int64_t most =
      std::max<std::int64_t>((fresh ? kPermutedSegments * segment_bytes_ : room) / element_bytes, 1);
  TensorPart part{.tensor = shard_.first_tensor + next_tensor_, .begins = next_element_ == 0};
  SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t taken,
                           elements_.TakeBox(segment, tensor, axes, next_element_, most, fresh, part));
  if (taken == 0) {
    return false;
  }
  next_element_ += taken;
  part.ends = next_element_ == elements;
  Advance(segment, part);
  return true;
}

absl::StatusOr<bool> SegmentCutter::TakeQuantized(Segment& segment, const OutputTensor& tensor, std::int64_t room) {
  const QuantizedPart& quantized = *tensor.quantized;
  TensorPart part{.tensor = shard_.first_tensor + next_tensor_,
                  .first_run = segment.runs.size(),
                  .begins = next_element_ == 0,
                  .buffered = true,
                  .first_element = next_element_};
  part.stashed = stashed_[static_cast<std::size_t>(next_tensor_)];
  part.buffered = !part.stashed;
  if (!NeedsValues(quantized.role) || part.stashed) {
    const std::int64_t element_bytes = InfoOf(tensor.dtype).bytes;
    part.bytes =
        std::min(tensor.bytes - next_element_, std::max<std::int64_t>(room / element_bytes, 1) * element_bytes);
    next_element_ += part.bytes;
    part.ends = next_element_ == tensor.bytes;
    Advance(segment, part);
    return true;
  }
  const QuantizedWeight& weight = plan_.quantized[static_cast<std::size_t>(quantized.weight)];
  const Bands bands = BandsOf(weight);
  const std::int64_t first_row = next_element_ / std::max<std::int64_t>(bands.columns, 1);
  const std::int64_t left = bands.total_rows - first_row;
  const std::int64_t band_bytes =
      std::max<std::int64_t>(bands.elements() * InfoOf(weight.values.transform.to).bytes, 1);
  std::int64_t count = std::max<std::int64_t>(segment_bytes_ / band_bytes, 1);
  const SegmentMark mark(segment);
  for (;; count /= 2) {
    const std::int64_t rows = std::min(left, count * bands.rows);
    part.bytes = OutputBytesOf(weight, quantized.role, rows);
    SLIPWAY_ASSIGN_OR_RETURN(bool taken, TakeValues(segment, weight.values, next_element_, rows * bands.columns, part));
    if (taken && weight.amaxes) {
      SLIPWAY_ASSIGN_OR_RETURN(taken, elements_.TakeAmaxes(segment, weight, first_row, rows, part));
    }
    if (taken && segment.memory() + part.bytes + part.value_bytes <= maximum_memory_) {
      next_element_ += rows * bands.columns;
      part.ends = rows == left;
      Advance(segment, part);
      return true;
    }
    mark.Restore(segment);
    if (count > 1) {
      continue;
    }
    if (segment.parts.empty()) {
      return Error(Reason::kInternal, "a band of it does not fit into a segment", {.tensor = tensor.name});
    }
    return false;
  }
}

absl::StatusOr<bool> SegmentCutter::TakeValues(Segment& segment, const OutputTensor& values, std::int64_t first,
                                               std::int64_t count, TensorPart& part) {
  if (first == 0) {
    SLIPWAY_RETURN_IF_ERROR(elements_.Check(values));
  }
  SLIPWAY_ASSIGN_OR_RETURN(const auto axes, ElementCutter::PermutationOf(values));
  part.first_value_part = segment.value_parts.size();
  part.value_bytes = count * InfoOf(values.transform.to).bytes;
  for (std::int64_t taken = 0; taken < count;) {
    TensorPart piece{.first_run = segment.runs.size()};
    SLIPWAY_ASSIGN_OR_RETURN(
        const std::int64_t more,
        axes ? elements_.TakeBox(segment, values, *axes, first + taken, count - taken, segment.parts.empty(), piece)
             : elements_.Take(segment, values, first + taken, count - taken, piece));
    if (more == 0) {
      return false;
    }
    taken += more;
    segment.value_parts.push_back(piece);
  }
  part.value_part_count = segment.value_parts.size() - part.first_value_part;
  const TensorPart* const only = part.value_part_count == 1 ? &segment.value_parts.back() : nullptr;
  if (only != nullptr && !only->buffered && only->run_count == 1) {
    part.value_bytes = 0;
  }
  return true;
}

void SegmentCutter::Advance(Segment& segment, const TensorPart& part) {
  segment.buffer_bytes += (part.buffered ? part.bytes : 0) + part.value_bytes;
  segment.parts.push_back(part);
  position_ += part.bytes;
  if (part.ends) {
    next_element_ = 0;
    ++next_tensor_;
  }
}

}  // namespace slipway::engine
