#include "worker/engine_task_runner.h"

#include <memory>

#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/worker/agent/fake_task_runner.h"

namespace slipway::worker {
namespace {

PlanSource SourceOfPlanThatNeeds(std::int64_t bytes) {
  return {.make = [bytes](const engine::ExportOptions&) -> absl::StatusOr<PlanCache::Plan> {
            auto plan = std::make_shared<engine::ExportPlan>();
            plan->peak_memory_bytes = bytes;
            plan->hash = "h";
            return plan;
          },
          .check_unchanged = [](const engine::ExportPlan&) { return absl::OkStatus(); }};
}

v1::Assignment AssignmentOf(v1::TaskKind kind) {
  v1::Assignment assignment = MakeAssignment(kind);
  assignment.mutable_spec()->set_checkpoint("/nowhere");
  assignment.set_output("/nowhere/output");
  assignment.set_plan_hash("h");
  return assignment;
}

TEST(EngineTaskRunner, APlanThatNeedsMoreMemoryThanTheWorkerHasIsRefusedWithTheSizeNeeded) {
  EngineTaskRunner runner({.memory_budget = 1000, .threads = 1}, PosixFileSystem(), SourceOfPlanThatNeeds(1001));
  for (const v1::TaskKind kind : {v1::TASK_KIND_PLAN, v1::TASK_KIND_VALIDATE}) {
    TaskControl control;
    const auto plan = runner.Plan(AssignmentOf(kind), control);
    EXPECT_EQ(ReasonOf(plan.status()), Reason::kMemoryBudgetTooSmall);
    EXPECT_NE(std::string(plan.status().message()).find("1001 bytes"), std::string::npos);
  }
  TaskControl control;
  EXPECT_EQ(ReasonOf(runner.WriteShard(AssignmentOf(v1::TASK_KIND_SHARD), "e1-x", control).status()),
            Reason::kInternal);  // the plan has no shards
}

TEST(EngineTaskRunner, ValidatingNeedsNoOutputAndAPlanThatJustFitsIsTaken) {
  EngineTaskRunner runner({.memory_budget = 1000, .threads = 1}, PosixFileSystem(), SourceOfPlanThatNeeds(1000));
  TaskControl control;
  v1::Assignment assignment = AssignmentOf(v1::TASK_KIND_VALIDATE);
  assignment.clear_output();
  control.Cancel();
  EXPECT_EQ(ReasonOf(runner.Plan(assignment, control).status()), Reason::kCancelled);
  EXPECT_EQ(control.heartbeat(), 2);
}

TEST(EngineTaskRunner, ACheckpointThatIsNotThereIsAnErrorWithItsReason) {
  EngineTaskRunner runner({.memory_budget = 1000, .threads = 1}, PosixFileSystem());
  TaskControl control;
  v1::Assignment assignment = MakeAssignment(v1::TASK_KIND_INSPECT);
  assignment.set_checkpoint("/nowhere/at/all");
  EXPECT_EQ(ReasonOf(runner.Inspect(assignment, control).status()), Reason::kCheckpointNotFound);
}

}  // namespace
}  // namespace slipway::worker
