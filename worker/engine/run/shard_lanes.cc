#include "worker/engine/run/shard_lanes.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include <fmt/format.h>

#include "common/count_of.h"
#include "common/error.h"
#include "worker/engine/run/quantized_bands.h"

namespace slipway::engine {
namespace {

// Written ranges go to the kernel's write-back in steps of this size.
constexpr std::int64_t kWriteBackStep = std::int64_t{32} << 20;

void Update(Digest& digest, const iovec& piece) {
  digest.Update(std::span(static_cast<const std::byte*>(piece.iov_base), piece.iov_len));
}

absl::Status Overflow(const OutputTensor& tensor, std::int64_t count) {
  const std::string_view instead = tensor.dtype == DType::kF16 ? "; export with --dtype bf16 or fp32"
                                   : tensor.update             ? ": nothing holds what is added up or multiplied here"
                                                               : "; export with --dtype fp32";
  return Error(Reason::kOptionUnsupported,
               fmt::format("{} {} too large for {}, which would make {} infinite{}", CountOf(count, "finite value"),
                           count == 1 ? "is" : "are", InfoOf(tensor.dtype).safetensors_name, count == 1 ? "it" : "them",
                           instead),
               {.tensor = tensor.name});
}

}  // namespace

void DigestLane::Take(const LoadedSegment& segment) {
  for (const iovec& piece : segment.pieces()) {
    Update(digest_, piece);
  }
}

void ChecksumLane::Take(const LoadedSegment& segment) {
  const std::vector<TensorPart>& parts = segment.segment().parts;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].begins) {
      current_.emplace(DigestAlgorithm::kXxh3);
    }
    for (std::size_t piece = segment.first_pieces()[i]; piece < segment.first_pieces()[i + 1]; ++piece) {
      Update(*current_, segment.pieces()[piece]);
    }
    if (parts[i].ends) {
      done_.push_back({plan_.tensors[static_cast<std::size_t>(parts[i].tensor)].name, current_->Finish()});
    }
  }
}

RoundingLane::RoundingLane(const ExportPlan& plan, const Shard& shard)
    : plan_(plan), first_tensor_(shard.first_tensor), totals_(static_cast<std::size_t>(shard.tensor_count)) {
  for (std::size_t i = 0; i < totals_.size(); ++i) {
    if (CanOverflow(plan.tensors[static_cast<std::size_t>(first_tensor_) + i])) {
      totals_[i].emplace();
    }
  }
}

std::optional<Rounding> RoundingLane::CastOf(std::size_t number) const {
  return IsCast(plan_.tensors[static_cast<std::size_t>(first_tensor_) + number]) ? totals_[number] : std::nullopt;
}

bool RoundingLane::IsNeeded() const {
  return std::ranges::any_of(totals_, [](const auto& total) { return total.has_value(); });
}

absl::Status RoundingLane::Take(const LoadedSegment& segment) {
  const std::vector<TensorPart>& parts = segment.segment().parts;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    std::optional<Rounding>& total = totals_[static_cast<std::size_t>(parts[i].tensor - first_tensor_)];
    if (!total) {
      continue;
    }
    total->Merge(segment.roundings()[i]);
    // At the tensor's end and in file order: which tensor and how many does not depend on segments and threads.
    if (parts[i].ends && total->overflows > 0) {
      return Overflow(plan_.tensors[static_cast<std::size_t>(parts[i].tensor)], total->overflows);
    }
  }
  return absl::OkStatus();
}

absl::Status StatisticsLane::Take(const LoadedSegment& segment) {
  const std::vector<TensorPart>& parts = segment.segment().parts;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const OutputTensor& tensor = plan_.tensors[static_cast<std::size_t>(parts[i].tensor)];
    if (!tensor.quantized || tensor.quantized->role != StoredRole::kCodes) {
      continue;
    }
    std::optional<WeightStatistics>& total = totals_[static_cast<std::size_t>(parts[i].tensor - first_tensor_)];
    if (!total) {
      total.emplace();
    }
    const QuantizedWeight& weight = plan_.quantized[static_cast<std::size_t>(tensor.quantized->weight)];
    total->Add(segment.statistics()[i], KeptColumnsOf(weight));
    if (!std::isfinite(total->squared_value) || !std::isfinite(total->squared_error)) {
      return Error(
          Reason::kCheckpointCorrupt,
          fmt::format("has values as large as {:.3g}, whose squares FP32 cannot hold: no weights are like that, "
                      "and they are not quantized; a rule of --recipe can leave the module out",
                      total->amax),
          {.tensor = tensor.name});
    }
  }
  return absl::OkStatus();
}

absl::Status WriteLane::Take(const LoadedSegment& segment) {
  const Segment& description = segment.segment();
  SLIPWAY_RETURN_IF_ERROR(file_.WriteAt(description.file_offset, segment.pieces()));
  bytes_written_ += description.bytes;
  const std::int64_t end = description.file_offset + description.bytes;
  if (write_back_ && end - write_back_from_ >= kWriteBackStep) {
    file_.StartWriteBack(write_back_from_, end - write_back_from_);
    write_back_from_ = end;
  }
  if (written_) {
    written_(description.bytes);
  }
  return absl::OkStatus();
}

}  // namespace slipway::engine
