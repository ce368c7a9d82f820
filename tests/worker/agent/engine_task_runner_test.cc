#include "worker/engine_task_runner.h"

#include <array>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/random_export.h"
#include "tests/support/temporary_directory.h"
#include "tests/worker/agent/fake_task_runner.h"
#include "worker/engine/run/memory_needs.h"

namespace slipway::worker {
namespace {

PlanSource SourceOfPlanThatNeeds(std::int64_t bytes) {
  return {.make = [bytes](const engine::ExportOptions&,
                          const engine::PlanProgress& progress) -> absl::StatusOr<PlanCache::Plan> {
            auto plan = std::make_shared<engine::ExportPlan>();
            plan->peak_memory_bytes = bytes;
            plan->hash = "h";
            progress();
            progress();
            progress();
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
  EXPECT_EQ(control.heartbeat(), 5);  // three steps of the plan, and a phase before and after
}

// The coordinator ends a task whose heartbeat stands still: each file that a publication writes must be one.
TEST(EngineTaskRunner, APublicationsHeartbeatGrowsWithEveryFileThatItWrites) {
  const test::TemporaryDirectory directory;
  std::array<std::int64_t, 2> heartbeats{};
  constexpr std::int64_t kFiles = 50;
  for (std::size_t i = 0; i < heartbeats.size(); ++i) {
    const test::RandomExport made =
        test::MakeRandomExport(directory / ("checkpoint" + std::to_string(i)), {.shards = 1});
    for (std::size_t file = 0; file < i * kFiles; ++file) {
      made.plan->texts.push_back({.path = "text" + std::to_string(file), .content = "x"});
    }
    EngineTaskRunner runner(
        {.memory_budget = engine::kMaximumSegmentMemory, .threads = 1}, PosixFileSystem(),
        {.make = [&](const engine::ExportOptions&, const engine::PlanProgress&) -> absl::StatusOr<PlanCache::Plan> {
           return made.plan;
         },
         .check_unchanged = [](const engine::ExportPlan&) { return absl::OkStatus(); }});
    v1::Assignment assignment = AssignmentOf(v1::TASK_KIND_PLAN);
    assignment.set_output(directory / ("output" + std::to_string(i)));
    assignment.set_plan_hash(made.plan->hash);
    TaskControl control;
    ASSERT_TRUE(runner.Plan(assignment, control).ok());
    ASSERT_TRUE(runner.WriteShard(assignment, "e1-x", control).ok());
    TaskControl publishing;
    const auto published = runner.Publish(assignment, publishing);
    ASSERT_TRUE(published.ok()) << Describe(published.status());
    heartbeats.at(i) = publishing.heartbeat();
  }
  EXPECT_GE(heartbeats[1] - heartbeats[0], kFiles);
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
