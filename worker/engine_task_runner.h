// The task runner that exports: the engine behind the agent's interface.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "common/file_system.h"
#include "worker/engine/quantize/quantizer.h"
#include "worker/engine/run/buffer_pool.h"
#include "worker/engine/run/known_scales.h"
#include "worker/engine/run/memory_budget.h"
#include "worker/plan_cache.h"
#include "worker/task_runner.h"

namespace slipway::worker {

struct EngineOptions {
  std::int64_t memory_budget = 0;                      // bytes, for everything that runs in the process
  std::string device = "cpu";                          // of quantization: auto, cpu, cuda, cuda:N
  std::optional<std::int64_t> gpu_memory_budget = {};  // bytes of the device; absent: half of what is free
  int threads = 1;  // shared by the shards that are written at the same time; at least 1
};

class EngineTaskRunner final : public TaskRunner {
 public:
  // `files` outlives the runner. `plans`: the engine's, except in tests.
  EngineTaskRunner(const EngineOptions& options, FileSystem& files, PlanSource plans = EnginePlanSource());

  absl::StatusOr<v1::PlanSummary> Plan(const v1::Assignment& assignment, TaskControl& control) override;
  absl::StatusOr<v1::ShardResult> WriteShard(const v1::Assignment& assignment, const std::string& attempt,
                                             TaskControl& control) override;
  absl::StatusOr<v1::PublishResult> Publish(const v1::Assignment& assignment, TaskControl& control) override;
  absl::StatusOr<std::string> Inspect(const v1::Assignment& assignment, TaskControl& control) override;

  static PlanSource EnginePlanSource();

 private:
  // The plan that the export was accepted with.
  absl::StatusOr<PlanCache::Plan> AcceptedPlan(const v1::Assignment& assignment, TaskControl& control);

  // What quantizes `plan`, made when it is first needed. A device that was not named is a GPU only where scales are
  // searched: for less than that, values do not pay the way to it and back (tests/bench/RESULTS.md).
  absl::StatusOr<engine::Quantizer*> FindQuantizer(const engine::ExportPlan& plan);
  // Shared by the shards that are written at the same time, and gone with the last of them: an idle worker holds no
  // memory. `quantizer` may be null.
  std::shared_ptr<engine::BufferPool> Buffers(const engine::Quantizer* quantizer);

  const EngineOptions options_;
  const int threads_;
  FileSystem& files_;
  engine::MemoryBudget memory_;
  PlanCache plans_;
  engine::KnownScales scales_;
  std::atomic<int> shards_in_work_ = 0;
  std::mutex quantizer_mutex_;
  std::map<std::string, std::unique_ptr<engine::Quantizer>> quantizers_;  // by device; guarded by quantizer_mutex_
  std::weak_ptr<engine::BufferPool> buffers_;                             // guarded by quantizer_mutex_
};

}  // namespace slipway::worker
