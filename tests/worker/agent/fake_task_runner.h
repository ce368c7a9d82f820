// An engine for tests: each kind of task does what the test says.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "common/error.h"
#include "worker/task_runner.h"

namespace slipway::worker {

class FakeTaskRunner final : public TaskRunner {
 public:
  std::function<absl::StatusOr<v1::PlanSummary>(TaskControl&)> plan = [](TaskControl&) { return v1::PlanSummary(); };
  std::function<absl::StatusOr<v1::ShardResult>(TaskControl&)> shard = [](TaskControl&) { return v1::ShardResult(); };
  std::function<absl::StatusOr<v1::PublishResult>(TaskControl&)> publish = [](TaskControl&) {
    return v1::PublishResult();
  };
  std::atomic<int> started = 0;

  absl::StatusOr<v1::PlanSummary> Plan(const v1::Assignment& /*assignment*/, TaskControl& control) override {
    ++started;
    return plan(control);
  }
  absl::StatusOr<v1::ShardResult> WriteShard(const v1::Assignment& /*assignment*/, const std::string& attempt,
                                             TaskControl& control) override {
    ++started;
    auto result = shard(control);
    if (result.ok()) {
      result->set_file(attempt);
    }
    return result;
  }
  absl::StatusOr<v1::PublishResult> Publish(const v1::Assignment& /*assignment*/, TaskControl& control) override {
    ++started;
    return publish(control);
  }
  absl::StatusOr<std::string> Inspect(const v1::Assignment& assignment, TaskControl& /*control*/) override {
    ++started;
    return assignment.checkpoint();
  }
};

// Runs until it is cancelled.
inline absl::StatusOr<v1::ShardResult> RunUntilCancelled(TaskControl& control) {
  while (!control.cancelled()) {
    std::this_thread::yield();
  }
  return Error(Reason::kCancelled, "the task was cancelled");
}

inline v1::Assignment MakeAssignment(v1::TaskKind kind, std::int32_t shard = 0, std::int64_t epoch = 1) {
  v1::Assignment assignment;
  assignment.mutable_lease()->set_export_name("exports/e");
  assignment.mutable_lease()->set_kind(kind);
  assignment.mutable_lease()->set_shard(shard);
  assignment.mutable_lease()->set_epoch(epoch);
  return assignment;
}

}  // namespace slipway::worker
