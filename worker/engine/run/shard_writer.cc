#include "worker/engine/run/shard_writer.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "common/kill_point.h"
#include "worker/engine/quantize/cpu_quantizer.h"
#include "worker/engine/run/journal.h"
#include "worker/engine/run/segment_cutter.h"
#include "worker/engine/run/segment_pipeline.h"
#include "worker/engine/run/shard_lanes.h"
#include "worker/engine/run/staging.h"
#include "worker/engine/run/tensor_scales.h"

namespace slipway::engine {
namespace {

// What is read is still in the processor's cache when it is measured, coded, digested and written.
constexpr std::int64_t kCachedSegmentBytes = std::int64_t{512} << 10;

// Removes the attempt's file unless it was kept.
class AttemptFile {
 public:
  AttemptFile(FileSystem& files, std::string path) : files_(files), path_(std::move(path)) {}
  AttemptFile(const AttemptFile&) = delete;
  AttemptFile& operator=(const AttemptFile&) = delete;
  ~AttemptFile() {
    if (!kept_) {
      files_.RemoveFile(path_).IgnoreError();
    }
  }
  [[nodiscard]] const std::string& path() const { return path_; }
  void Keep() { kept_ = true; }

 private:
  FileSystem& files_;
  std::string path_;
  bool kept_ = false;
};

absl::Status CheckUsedFiles(const Checkpoint& checkpoint, const std::vector<bool>& used) {
  for (std::size_t i = 0; i < used.size(); ++i) {
    if (!used[i]) {
      continue;
    }
    const CheckpointFile& file = checkpoint.files[i];
    SLIPWAY_ASSIGN_OR_RETURN(const FileIdentity now, file.file->CurrentIdentity());
    if (now != file.identity) {
      return Error(Reason::kCheckpointChanged, "the file changed since the plan was made", {.file = file.name});
    }
  }
  return absl::OkStatus();
}

absl::Status Validate(const ExportPlan& plan, std::int32_t shard, const RunResources& resources) {
  if (shard < 0 || static_cast<std::size_t>(shard) >= plan.shards.size() || resources.threads < 1) {
    return Error(Reason::kInternal, fmt::format("shard {} or {} threads make no sense", shard, resources.threads));
  }
  if (resources.memory->total() < MinimumMemoryBudget(plan)) {
    return Error(Reason::kMemoryBudgetTooSmall, fmt::format("the export needs a memory budget of {} bytes, not {}",
                                                            MinimumMemoryBudget(plan), resources.memory->total()));
  }
  return absl::OkStatus();
}

// Boxes of permuted axes have longer rows the larger they are.
bool HasPermutations(const ExportPlan& plan, const Shard& shard) {
  const auto tensors =
      std::span(plan.tensors)
          .subspan(static_cast<std::size_t>(shard.first_tensor), static_cast<std::size_t>(shard.tensor_count));
  return std::ranges::any_of(tensors, [](const OutputTensor& tensor) { return !tensor.permutation.IsNone(); });
}

// Writes the shard's bytes into `file`, all but making them durable.
absl::StatusOr<ShardResult> WriteBytes(const ExportPlan& plan, std::int32_t index, WritableFile& file,
                                       const RunResources& given, const RunControl& control) {
  const Shard& shard = plan.shards[static_cast<std::size_t>(index)];
  const std::unique_ptr<Quantizer> own = given.quantizer == nullptr ? MakeCpuQuantizer() : nullptr;
  Quantizer& quantizer = own ? *own : *given.quantizer;
  RunResources resources = given;
  // SHA-256 takes longer than all else: its thread is behind the one that loads and writes, and longer segments mean
  // fewer waits for each other.
  const bool is_copied_fast = plan.options.digest != DigestAlgorithm::kSha256 && !HasPermutations(plan, shard);
  if (plan.quantized.empty() ? is_copied_fast : !quantizer.takes_pinned_memory()) {
    resources.segment_bytes = std::min(resources.segment_bytes, kCachedSegmentBytes);
  }
  SLIPWAY_ASSIGN_OR_RETURN(const std::vector<float> tensor_scales,
                           FindTensorScales(plan, index, quantizer, resources, control));
  ScaleStash stash(plan, shard);
  const Quantization quantization{
      .quantizer = &quantizer, .tensor_scales = tensor_scales, .stash = &stash, .probe = {}};
  DigestLane digest(plan.options.digest);
  ChecksumLane checksums(plan);
  RoundingLane roundings(plan, shard);
  StatisticsLane statistics(plan, shard);
  WriteLane writer(file, resources.files->durability() == Durability::kDurable, control.written);
  std::vector<SegmentPipeline::Lane> lanes;
  if (plan.options.digest != DigestAlgorithm::kNone) {
    lanes.emplace_back([&digest](const LoadedSegment& segment) {
      digest.Take(segment);
      return absl::OkStatus();
    });
    lanes.emplace_back([&checksums](const LoadedSegment& segment) {
      checksums.Take(segment);
      return absl::OkStatus();
    });
  }
  if (roundings.IsNeeded()) {
    lanes.emplace_back([&roundings](const LoadedSegment& segment) { return roundings.Take(segment); });
  }
  if (!plan.quantized.empty()) {
    lanes.emplace_back([&statistics](const LoadedSegment& segment) { return statistics.Take(segment); });
  }
  lanes.emplace_back([&writer](const LoadedSegment& segment) {
    SLIPWAY_KILL_POINT("shard-segment");
    return writer.Take(segment);
  });

  SegmentCutter cutter(plan, index, resources.segment_bytes, /*stash=*/true);
  SegmentPipeline pipeline(
      plan, shard, cutter, std::move(lanes),
      {.memory = resources.memory,
       .threads = resources.threads,
       .share = resources.share,
       .cancelled = [&control] { return control.cancelled != nullptr && control.cancelled->load(); },
       .buffers = resources.buffers,
       .quantization = &quantization});
  const absl::Status status = pipeline.Run();
  // A file that changed explains whatever else went wrong with it.
  const bool ask_files = status.ok() || ReasonOf(status) != Reason::kCancelled;
  SLIPWAY_RETURN_IF_ERROR(ask_files ? CheckUsedFiles(*plan.checkpoint, cutter.used_files()) : absl::OkStatus());
  SLIPWAY_RETURN_IF_ERROR(status);

  ShardResult result{.shard = index,
                     .file = shard.file,
                     .bytes = shard.bytes,
                     .digest = digest.Finish(),
                     .tensors = checksums.Finish(),
                     .bytes_written = writer.bytes_written()};
  if (plan.options.digest == DigestAlgorithm::kNone) {
    for (std::int32_t i = 0; i < shard.tensor_count; ++i) {
      result.tensors.push_back(
          {plan.tensors[static_cast<std::size_t>(shard.first_tensor) + static_cast<std::size_t>(i)].name, ""});
    }
  }
  for (std::size_t i = 0; i < result.tensors.size(); ++i) {
    result.tensors[i].rounding = roundings.CastOf(i);
    result.tensors[i].quantization = statistics.totals()[i];
  }
  return result;
}

absl::StatusOr<ShardResult> WriteAttempt(const ExportPlan& plan, std::int32_t index, const std::string& staging,
                                         const std::string& attempt, const RunResources& resources,
                                         const RunControl& control) {
  const Shard& shard = plan.shards[static_cast<std::size_t>(index)];
  FileSystem& files = *resources.files;
  const std::string final_path = fmt::format("{}/{}", staging, shard.file);
  SLIPWAY_ASSIGN_OR_RETURN(const std::unique_ptr<FileLock> held,
                           files.TryLock(fmt::format("{}/{}", staging, kLockFile), /*exclusive=*/false));
  AttemptFile attempt_file(files, fmt::format("{}.attempt-{}", final_path, attempt));
  SLIPWAY_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, files.Create(attempt_file.path()));
  SLIPWAY_RETURN_IF_ERROR(file->Allocate(shard.bytes));
  SLIPWAY_ASSIGN_OR_RETURN(ShardResult result, WriteBytes(plan, index, *file, resources, control));
  SLIPWAY_KILL_POINT("shard-before-sync");
  SLIPWAY_RETURN_IF_ERROR(file->Sync());
  file.reset();
  SLIPWAY_KILL_POINT("shard-before-rename");
  SLIPWAY_RETURN_IF_ERROR(files.Rename(attempt_file.path(), final_path, RenameMode::kReplace));
  attempt_file.Keep();
  SLIPWAY_RETURN_IF_ERROR(files.SyncDirectory(ParentOf(final_path)));
  SLIPWAY_KILL_POINT("shard-before-journal");
  SLIPWAY_RETURN_IF_ERROR(RecordShard(plan, result, staging, files));
  SLIPWAY_KILL_POINT("shard-after-journal");
  return result;
}

}  // namespace

absl::StatusOr<ShardResult> WriteShard(const ExportPlan& plan, std::int32_t shard, const std::string& staging,
                                       const std::string& attempt, const RunResources& resources,
                                       const RunControl& control) {
  SLIPWAY_RETURN_IF_ERROR(Validate(plan, shard, resources));
  if (auto recorded = FindRecord(plan, shard, staging, *resources.files)) {
    return *std::move(recorded);
  }
  absl::StatusOr<ShardResult> result = WriteAttempt(plan, shard, staging, attempt, resources, control);
  if (!result.ok() && !resources.files->Exists(staging)) {
    return Error(Reason::kLeaseLost, "the staging directory is gone: another has published or removed it",
                 {.file = staging});
  }
  return result;
}

}  // namespace slipway::engine
