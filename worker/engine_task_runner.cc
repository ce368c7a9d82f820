#include "worker/engine_task_runner.h"

#include <algorithm>
#include <functional>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <nlohmann/json.hpp>

#include "common/byte_size.h"
#include "common/count_of.h"
#include "common/error.h"
#include "common/reporting_file_system.h"
#include "worker/conversion.h"
#include "worker/engine/plan/inspection.h"
#include "worker/engine/quantize/device_quantizer.h"
#include "worker/engine/run/publication.h"
#include "worker/engine/run/shard_writer.h"
#include "worker/engine/run/staging.h"

namespace slipway::worker {
namespace {

// Without the iteration: the tasks after the plan name the one that the plan chose.
std::string CacheKey(const v1::Assignment& assignment) {
  v1::ExportSpec spec = assignment.spec();
  spec.clear_iteration();
  return assignment.output() + '\0' + spec.SerializeAsString();
}

absl::Status CheckNotCancelled(const TaskControl& control) {
  return control.cancelled() ? Error(Reason::kCancelled, "the task was cancelled") : absl::OkStatus();
}

absl::Status CheckMemory(const engine::ExportPlan& plan, const engine::MemoryBudget& memory) {
  if (plan.peak_memory_bytes <= memory.total()) {
    return absl::OkStatus();
  }
  return Error(Reason::kMemoryBudgetTooSmall,
               fmt::format("the plan needs a memory budget of {} bytes ({}); the worker has {}", plan.peak_memory_bytes,
                           FormatByteSize(plan.peak_memory_bytes), FormatByteSize(memory.total())));
}

// The control outlives what is given the heartbeat.
std::function<void()> HeartbeatOf(TaskControl& control) {
  return [&control] { control.EnterPhase(); };
}

// Counts something in for as long as it lives.
class Counted {
 public:
  explicit Counted(std::atomic<int>& counter) : counter_(counter) { ++counter_; }
  ~Counted() { --counter_; }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

 private:
  std::atomic<int>& counter_;
};

}  // namespace

EngineTaskRunner::EngineTaskRunner(const EngineOptions& options, FileSystem& files, PlanSource plans)
    : options_(options),
      threads_(std::max(1, options.threads)),
      files_(files),
      memory_(options.memory_budget),
      plans_(std::move(plans)) {}

PlanSource EngineTaskRunner::EnginePlanSource() {
  return {.make = [](const engine::ExportOptions& options,
                     const engine::PlanProgress& progress) { return engine::MakePlan(options, progress); },
          .check_unchanged = [](const engine::ExportPlan& plan) { return engine::CheckUnchanged(*plan.checkpoint); }};
}

absl::StatusOr<v1::PlanSummary> EngineTaskRunner::Plan(const v1::Assignment& assignment, TaskControl& control) {
  SLIPWAY_ASSIGN_OR_RETURN(const engine::ExportOptions options, ToExportOptions(assignment.spec()));
  const bool validate_only = assignment.lease().kind() == v1::TASK_KIND_VALIDATE;
  control.EnterPhase();
  // Never from the cache: the latest iteration may be another one by now.
  SLIPWAY_ASSIGN_OR_RETURN(const PlanCache::Plan plan,
                           plans_.Make(CacheKey(assignment), options, HeartbeatOf(control)));
  control.EnterPhase();
  if (validate_only) {
    plans_.Forget(CacheKey(assignment));
  }
  SLIPWAY_RETURN_IF_ERROR(CheckMemory(*plan, memory_));
  SLIPWAY_RETURN_IF_ERROR(CheckNotCancelled(control));
  if (!validate_only) {
    ReportingFileSystem files(files_, HeartbeatOf(control));
    SLIPWAY_RETURN_IF_ERROR(
        engine::PrepareStaging(*plan, assignment.output(), assignment.spec().overwrite(), files).status());
    control.EnterPhase();
  }
  v1::PlanSummary summary = ToPlanSummary(*plan);
  if (validate_only) {
    SLIPWAY_ASSIGN_OR_RETURN(*summary.mutable_plan_json(),
                             Sendable(engine::PlanToJson(*plan, !assignment.omit_tensors()), "the plan"));
  }
  return summary;
}

absl::StatusOr<v1::ShardResult> EngineTaskRunner::WriteShard(const v1::Assignment& assignment,
                                                             const std::string& attempt, TaskControl& control) {
  SLIPWAY_ASSIGN_OR_RETURN(const PlanCache::Plan plan, AcceptedPlan(assignment, control));
  control.EnterPhase();
  const std::int32_t shard = assignment.lease().shard();
  if (shard < 0 || static_cast<std::size_t>(shard) >= plan->shards.size()) {
    return Error(Reason::kInternal,
                 fmt::format("the plan has {}, none numbered {}",
                             CountOf(static_cast<std::int64_t>(plan->shards.size()), "shard"), shard));
  }
  SLIPWAY_RETURN_IF_ERROR(CheckMemory(*plan, memory_));
  SLIPWAY_RETURN_IF_ERROR(CheckNotCancelled(control));
  const Counted in_work(shards_in_work_);
  ReportingFileSystem files(files_, HeartbeatOf(control));
  engine::Quantizer* quantizer = nullptr;
  if (!plan->quantized.empty()) {
    SLIPWAY_ASSIGN_OR_RETURN(quantizer, FindQuantizer(*plan));
  }
  const std::shared_ptr<engine::BufferPool> buffers = Buffers(quantizer);
  const engine::RunResources resources{.files = &files,
                                       .memory = &memory_,
                                       .buffers = buffers.get(),
                                       .quantizer = quantizer,
                                       .scales = &scales_,
                                       .threads = threads_,
                                       .share = [this] {
                                         const int shards = std::max(1, shards_in_work_.load());
                                         return (threads_ + shards - 1) / shards;
                                       }};
  const engine::RunControl run_control{.written = [&control](std::int64_t bytes) { control.AddBytes(bytes); },
                                       .cancelled = &control.cancel_flag()};
  SLIPWAY_ASSIGN_OR_RETURN(const engine::ShardResult result,
                           engine::WriteShard(*plan, shard, engine::StagingDirectory(assignment.output(), plan->hash),
                                              attempt, resources, run_control));
  return ToShardResult(result);
}

absl::StatusOr<v1::PublishResult> EngineTaskRunner::Publish(const v1::Assignment& assignment, TaskControl& control) {
  SLIPWAY_ASSIGN_OR_RETURN(const PlanCache::Plan plan, AcceptedPlan(assignment, control));
  control.EnterPhase();
  SLIPWAY_RETURN_IF_ERROR(CheckNotCancelled(control));
  ReportingFileSystem files(files_, HeartbeatOf(control));
  SLIPWAY_ASSIGN_OR_RETURN(const engine::Publication publication,
                           engine::Publish(*plan, assignment.output(), assignment.lease().export_name(),
                                           assignment.lease().epoch(), assignment.spec().overwrite(), files));
  plans_.Forget(CacheKey(assignment));
  return ToPublishResult(publication);
}

absl::StatusOr<std::string> EngineTaskRunner::Inspect(const v1::Assignment& assignment, TaskControl& control) {
  SLIPWAY_ASSIGN_OR_RETURN(const engine::InspectOptions options, ToInspectOptions(assignment));
  control.EnterPhase();
  SLIPWAY_ASSIGN_OR_RETURN(const nlohmann::ordered_json inspection, engine::Inspect(options));
  return Sendable(inspection.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace), "the inspection");
}

std::shared_ptr<engine::BufferPool> EngineTaskRunner::Buffers(const engine::Quantizer* quantizer) {
  const std::scoped_lock lock(quantizer_mutex_);
  std::shared_ptr<engine::BufferPool> buffers = buffers_.lock();
  if (buffers == nullptr) {
    buffers = std::make_shared<engine::BufferPool>(memory_, quantizer != nullptr && quantizer->takes_pinned_memory());
    buffers_ = buffers;
  }
  return buffers;
}

absl::StatusOr<engine::Quantizer*> EngineTaskRunner::FindQuantizer(const engine::ExportPlan& plan) {
  const bool searches = std::ranges::any_of(plan.quantized, [](const engine::QuantizedWeight& weight) {
    return weight.coding.search != engine::ScaleSearch::kAmax;
  });
  const bool named = !options_.device.empty() && options_.device != "auto";
  const std::string device = named || searches ? options_.device : "cpu";
  const std::scoped_lock lock(quantizer_mutex_);
  std::unique_ptr<engine::Quantizer>& quantizer = quantizers_[device];
  if (quantizer == nullptr) {
    SLIPWAY_ASSIGN_OR_RETURN(quantizer, engine::MakeDeviceQuantizer(device, options_.gpu_memory_budget));
    spdlog::info("quantizing with {}", quantizer->name());
  }
  return quantizer.get();
}

absl::StatusOr<PlanCache::Plan> EngineTaskRunner::AcceptedPlan(const v1::Assignment& assignment, TaskControl& control) {
  SLIPWAY_ASSIGN_OR_RETURN(const engine::ExportOptions options, ToExportOptions(assignment.spec()));
  return plans_.Find(CacheKey(assignment), options, assignment.plan_hash(), HeartbeatOf(control));
}

}  // namespace slipway::worker
