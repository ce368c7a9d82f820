#include "worker/engine/run/shard_lanes.h"

namespace slipway::engine {
namespace {

// Written ranges go to the kernel's write-back in steps of this size.
constexpr std::int64_t kWriteBackStep = std::int64_t{32} << 20;

void Update(Digest& digest, const iovec& piece) {
  digest.Update(std::span(static_cast<const std::byte*>(piece.iov_base), piece.iov_len));
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
