// The lanes of a shard: its digest, its tensors' checksums, its file.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "common/digest.h"
#include "common/file_system.h"
#include "worker/engine/run/loaded_segment.h"
#include "worker/engine/run/shard_writer.h"

namespace slipway::engine {

// Each takes the segments in file order and is used by one thread at a time.

class DigestLane {
 public:
  explicit DigestLane(DigestAlgorithm algorithm) : digest_(algorithm) {}
  void Take(const LoadedSegment& segment);
  [[nodiscard]] std::string Finish() { return digest_.Finish(); }

 private:
  Digest digest_;
};

class ChecksumLane {
 public:
  explicit ChecksumLane(const ExportPlan& plan) : plan_(plan) {}
  void Take(const LoadedSegment& segment);
  [[nodiscard]] std::vector<WrittenTensor> Finish() { return std::move(done_); }

 private:
  const ExportPlan& plan_;
  std::optional<Digest> current_;
  std::vector<WrittenTensor> done_;
};

// Adds up what rounding did to each tensor.
class RoundingLane {
 public:
  RoundingLane(const ExportPlan& plan, const Shard& shard);
  // Whether the shard has anything to be added up.
  [[nodiscard]] bool IsNeeded() const;
  // OPTION_UNSUPPORTED, naming the first tensor in which finite values became infinite.
  absl::Status Take(const LoadedSegment& segment);
  // Of the number-th tensor of the shard, if it is cast: what is rounded for another reason is not reported.
  [[nodiscard]] std::optional<Rounding> CastOf(std::size_t number) const;

 private:
  const ExportPlan& plan_;
  const std::int32_t first_tensor_;
  std::vector<std::optional<Rounding>> totals_;
};

// Adds up what quantization did to each weight.
class StatisticsLane {
 public:
  StatisticsLane(const ExportPlan& plan, const Shard& shard)
      : plan_(plan), first_tensor_(shard.first_tensor), totals_(static_cast<std::size_t>(shard.tensor_count)) {}
  // CHECKPOINT_CORRUPT for values that are finite, but not their squares in FP32: nothing could be said of the weight.
  absl::Status Take(const LoadedSegment& segment);
  // One for each tensor of the shard, present for those that have codes.
  [[nodiscard]] const std::vector<std::optional<WeightStatistics>>& totals() const { return totals_; }

 private:
  const ExportPlan& plan_;
  const std::int32_t first_tensor_;
  std::vector<std::optional<WeightStatistics>> totals_;
};

class WriteLane {
 public:
  // `file` must outlive the lane. With `write_back`, finished ranges begin their way to disk at once, so that the sync
  // at the end is short.
  WriteLane(WritableFile& file, bool write_back, std::function<void(std::int64_t)> written)
      : file_(file), write_back_(write_back), written_(std::move(written)) {}
  absl::Status Take(const LoadedSegment& segment);
  [[nodiscard]] std::int64_t bytes_written() const { return bytes_written_; }

 private:
  WritableFile& file_;
  const bool write_back_;
  const std::function<void(std::int64_t)> written_;
  std::int64_t bytes_written_ = 0;
  std::int64_t write_back_from_ = 0;
};

}  // namespace slipway::engine
