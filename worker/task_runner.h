// What the agent asks of an engine. The agent knows leases, threads and the coordinator; a runner knows checkpoints
// and files.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "slipway/v1/worker.pb.h"
#include "worker/task_control.h"

namespace slipway::worker {

// Thread-safe: called from as many threads at once as the agent has slots. A call ends with CANCELLED soon after
// control.Cancel(), leaving nothing of its own behind. Errors carry reasons; exceptions are caught by the caller and
// count as INTERNAL.
class TaskRunner {
 public:
  virtual ~TaskRunner() = default;

  // PLAN: makes the plan and the staging directory. VALIDATE: makes the plan, with plan_json, and leaves nothing.
  virtual absl::StatusOr<v1::PlanSummary> Plan(const v1::Assignment& assignment, TaskControl& control) = 0;
  // `attempt` is unique among all tries of all workers at this shard.
  virtual absl::StatusOr<v1::ShardResult> WriteShard(const v1::Assignment& assignment, const std::string& attempt,
                                                     TaskControl& control) = 0;
  virtual absl::StatusOr<v1::PublishResult> Publish(const v1::Assignment& assignment, TaskControl& control) = 0;
  // The inspection as JSON.
  virtual absl::StatusOr<std::string> Inspect(const v1::Assignment& assignment, TaskControl& control) = 0;
};

}  // namespace slipway::worker
