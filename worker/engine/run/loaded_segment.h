// A segment's bytes in memory: views of source pages where nothing changes, a buffer for the rest.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include <sys/uio.h>

#include "absl/status/statusor.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/run/memory_budget.h"
#include "worker/engine/run/segment_cutter.h"
#include "worker/engine/storage/source.h"

namespace slipway::engine {

// Immutable once loaded; several threads may read it at once. Refers to the plan.
class LoadedSegment {
 public:
  // Maps, transforms and gathers. `grant` covers segment.memory() and lives as long as the result. Errors as
  // SourceFile::Map; CHECKPOINT_CORRUPT for a dequantized value that is not a finite number.
  static absl::StatusOr<std::unique_ptr<const LoadedSegment>> Load(const ExportPlan& plan, const Shard& shard,
                                                                   Segment segment, MemoryBudget::Grant grant);

  [[nodiscard]] const Segment& segment() const { return segment_; }
  // The bytes of the segment in file order.
  [[nodiscard]] const std::vector<iovec>& pieces() const { return pieces_; }
  // Of part i, those are pieces() [first_pieces()[i], first_pieces()[i + 1]).
  [[nodiscard]] const std::vector<std::size_t>& first_pieces() const { return first_pieces_; }
  // After all use: an error if the sources failed or changed meanwhile.
  [[nodiscard]] absl::Status Check() const;

 private:
  LoadedSegment(Segment segment, MemoryBudget::Grant grant) : grant_(std::move(grant)), segment_(std::move(segment)) {}
  absl::Status MapWindows(const Checkpoint& checkpoint);
  absl::Status FillPieces(const ExportPlan& plan, const Shard& shard);
  absl::Status Dequantize(const ExportPlan& plan, const TensorPart& part, std::byte* output) const;
  [[nodiscard]] std::span<const std::byte> BytesOf(std::size_t run) const;

  MemoryBudget::Grant grant_;  // first: goes last
  Segment segment_;
  std::vector<Window> windows_;
  std::unique_ptr<std::byte[]> buffer_;
  std::vector<iovec> pieces_;
  std::vector<std::size_t> first_pieces_;
};

}  // namespace slipway::engine
