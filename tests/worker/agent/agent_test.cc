#include "worker/agent.h"

#include <algorithm>
#include <atomic>
#include <future>
#include <memory>
#include <stdexcept>
#include <thread>

#include <gtest/gtest.h>

#include "tests/worker/agent/fake_coordinator.h"
#include "tests/worker/agent/fake_task_runner.h"
#include "worker/coordinator_channel.h"

namespace slipway::worker {
namespace {

using Request = FakeCoordinator::Request;

bool Idle(const Request& request) { return request.tasks().empty(); }
bool Running(const Request& request) {
  return request.tasks_size() > 0 && request.tasks(0).outcome_case() == v1::TaskReport::OUTCOME_NOT_SET;
}
bool Ended(const Request& request) {
  return request.tasks_size() > 0 && request.tasks(0).outcome_case() != v1::TaskReport::OUTCOME_NOT_SET;
}

class AgentTest : public ::testing::Test {
 protected:
  // Pauses that no test survives, so that what passes did not wait for them.
  static AgentOptions Options() {
    return {.name = "w",
            .incarnation = "0123456789abcdef",
            .devices = {"cpu"},
            .slots = 1,
            .drain_timeout = std::chrono::hours(1),
            .idle_call_timeout = std::chrono::hours(1),
            .busy_call_timeout = std::chrono::hours(1),
            .longest_busy_pause = std::chrono::hours(1),
            .longest_backoff = std::chrono::milliseconds(20)};
  }

  void StartAgent(const AgentOptions& options = Options()) {
    agent_ = std::make_unique<Agent>(options, OpenCoordinatorChannel(coordinator_.address()), runner_);
    drained_ = std::async(std::launch::async, [this] { return agent_->Run(); });
  }

  void TearDown() override {
    if (agent_ && drained_.valid()) {
      agent_->Drain();
      drained_.wait();
    }
    agent_.reset();
  }

  FakeCoordinator coordinator_;
  FakeTaskRunner runner_;
  std::unique_ptr<Agent> agent_;
  std::future<bool> drained_;
};

TEST_F(AgentTest, AnIdleWorkerSaysWhoItIsAndWhatItCanDo) {
  coordinator_.Start();
  StartAgent();
  const auto request = coordinator_.WaitFor(Idle);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->worker(), "w");
  EXPECT_EQ(request->incarnation(), "0123456789abcdef");
  EXPECT_EQ(request->version(), SLIPWAY_VERSION);
  ASSERT_EQ(request->devices_size(), 1);
  EXPECT_EQ(request->devices(0), "cpu");
  EXPECT_EQ(request->free_slots(), 1);
  EXPECT_FALSE(request->draining());
}

TEST_F(AgentTest, WorkOfferedToAnIdleWorkerIsDoneAndReportedWithoutWaitingForATimer) {
  coordinator_.Start();
  StartAgent();
  ASSERT_TRUE(coordinator_.WaitFor(Idle));
  coordinator_.Offer(MakeAssignment(v1::TASK_KIND_SHARD, 3, 7));
  const auto request = coordinator_.WaitFor(Ended);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->tasks(0).lease().shard(), 3);
  EXPECT_EQ(request->tasks(0).shard().file(), "e7-01234567");
  EXPECT_EQ(request->free_slots(), 1);
  EXPECT_TRUE(coordinator_.WaitFor(Idle));
}

TEST_F(AgentTest, AWorkerFindsACoordinatorThatStartsLater) {
  StartAgent();
  std::this_thread::sleep_for(std::chrono::milliseconds(30));  // let some attempts fail first; passes without, too
  coordinator_.Start();
  EXPECT_TRUE(coordinator_.WaitFor(Idle));
}

TEST_F(AgentTest, AResultIsReportedUntilItIsAcknowledged) {
  AgentOptions options = Options();
  options.longest_busy_pause = std::chrono::milliseconds(20);
  coordinator_.SetAcknowledging(false);
  coordinator_.Start();
  StartAgent(options);
  coordinator_.Offer(MakeAssignment(v1::TASK_KIND_PLAN));
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(coordinator_.WaitFor(Ended));
  }
  coordinator_.SetAcknowledging(true);
  EXPECT_TRUE(coordinator_.WaitFor(Idle));
}

TEST_F(AgentTest, WorkGoesOnWhileTheCoordinatorIsAwayAndIsReportedWhenItIsBack) {
  std::promise<void> gate;
  runner_.shard = [&gate](TaskControl& control) {
    gate.get_future().wait();
    control.AddBytes(5);
    return v1::ShardResult();
  };
  coordinator_.Start();
  StartAgent();
  coordinator_.Offer(MakeAssignment(v1::TASK_KIND_SHARD));
  while (runner_.started == 0) {
    std::this_thread::yield();
  }
  coordinator_.Stop();
  gate.set_value();
  coordinator_.Start();
  const auto request = coordinator_.WaitFor(Ended);
  ASSERT_TRUE(request);
  EXPECT_TRUE(request->tasks(0).has_shard());
  EXPECT_EQ(request->tasks(0).bytes_done(), 5);
  EXPECT_EQ(runner_.started, 1);
}

TEST_F(AgentTest, AnIdleWorkerReturnsToARestartedCoordinator) {
  coordinator_.Start();
  StartAgent();
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(coordinator_.WaitFor(Idle));
    coordinator_.Stop();
    coordinator_.Start();
  }
  coordinator_.Offer(MakeAssignment(v1::TASK_KIND_PLAN));
  EXPECT_TRUE(coordinator_.WaitFor(Ended));
}

TEST_F(AgentTest, ARunningTaskIsReportedWithItsProgressAtTheCoordinatorsPace) {
  AgentOptions options = Options();
  options.longest_busy_pause = std::chrono::milliseconds(20);
  runner_.shard = [](TaskControl& control) {
    control.AddBytes(1000);
    return RunUntilCancelled(control);
  };
  coordinator_.Start();
  StartAgent(options);
  const v1::Assignment assignment = MakeAssignment(v1::TASK_KIND_SHARD);
  coordinator_.Offer(assignment);
  const auto request =
      coordinator_.WaitFor([](const Request& r) { return Running(r) && r.tasks(0).bytes_done() == 1000; });
  ASSERT_TRUE(request);
  EXPECT_EQ(request->tasks(0).heartbeat(), 1);
  EXPECT_EQ(request->free_slots(), 0);
  // Calling alone is no progress.
  const auto later = coordinator_.WaitFor(Running);
  ASSERT_TRUE(later);
  EXPECT_EQ(later->tasks(0).heartbeat(), 1);
  coordinator_.Revoke(assignment.lease());
  EXPECT_TRUE(coordinator_.WaitFor(Idle));
}

TEST_F(AgentTest, ARevokedTaskStopsAndItsResultIsDropped) {
  AgentOptions options = Options();
  options.longest_busy_pause = std::chrono::milliseconds(20);
  runner_.shard = RunUntilCancelled;
  coordinator_.Start();
  StartAgent(options);
  const v1::Assignment assignment = MakeAssignment(v1::TASK_KIND_SHARD);
  coordinator_.Revoke(assignment.lease());
  coordinator_.Offer(assignment);
  ASSERT_TRUE(coordinator_.WaitFor(Running));
  const auto next = coordinator_.WaitFor([](const Request& r) { return !Running(r); });
  ASSERT_TRUE(next);
  EXPECT_TRUE(next->tasks().empty());
}

TEST_F(AgentTest, APublicationIsReportedEvenIfItsLeaseWasRevoked) {
  AgentOptions options = Options();
  options.longest_busy_pause = std::chrono::milliseconds(20);
  runner_.publish = [](TaskControl& control) {
    static_cast<void>(RunUntilCancelled(control));
    v1::PublishResult result;
    result.set_path("/published");
    return result;
  };
  coordinator_.Start();
  StartAgent(options);
  const v1::Assignment assignment = MakeAssignment(v1::TASK_KIND_PUBLISH);
  coordinator_.Revoke(assignment.lease());
  coordinator_.Offer(assignment);
  const auto request = coordinator_.WaitFor(Ended);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->tasks(0).publish().path(), "/published");
}

TEST_F(AgentTest, AnAssignmentThatIsRepeatedRunsOnce) {
  coordinator_.Start();
  AgentOptions options = Options();
  options.slots = 2;
  std::promise<void> gate;
  runner_.plan = [&gate](TaskControl&) {
    gate.get_future().wait();
    return v1::PlanSummary();
  };
  const v1::Assignment plan = MakeAssignment(v1::TASK_KIND_PLAN);
  coordinator_.Offer(plan);
  coordinator_.Offer(plan);
  StartAgent(options);
  while (runner_.started == 0) {
    std::this_thread::yield();
  }
  gate.set_value();
  const auto request = coordinator_.WaitFor(Ended);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->tasks_size(), 1);
  EXPECT_EQ(runner_.started, 1);
}

TEST_F(AgentTest, TasksRunAtOnceWithinTheSlotsAndTheNextStartsWhenOneEnds) {
  coordinator_.Start();
  AgentOptions options = Options();
  options.slots = 2;
  std::atomic<int> inside = 0;
  std::promise<void> together;
  runner_.shard = [&](TaskControl&) {
    // Ends only if two are inside at the same time: the first two wait for each other, the third finds both gone by.
    if (++inside == 2) {
      together.set_value();
    }
    while (inside < 2) {
      std::this_thread::yield();
    }
    return v1::ShardResult();
  };
  for (const int shard : {0, 1, 2}) {
    coordinator_.Offer(MakeAssignment(v1::TASK_KIND_SHARD, shard));
  }
  StartAgent(options);
  EXPECT_EQ(together.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
  EXPECT_TRUE(coordinator_.WaitFor([](const Request& request) {
    return std::ranges::any_of(request.tasks(), [](const v1::TaskReport& report) {
      return report.lease().shard() == 2 && report.has_shard();
    });
  }));
}

TEST_F(AgentTest, ATaskThatThrowsEndsAsInternalAndTheWorkerLives) {
  coordinator_.Start();
  StartAgent();
  runner_.shard = [](TaskControl&) -> absl::StatusOr<v1::ShardResult> { throw std::runtime_error("the hold leaks"); };
  runner_.plan = [](TaskControl&) -> absl::StatusOr<v1::PlanSummary> { throw 7; };
  coordinator_.Offer(MakeAssignment(v1::TASK_KIND_SHARD));
  const auto first = coordinator_.WaitFor(Ended);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->tasks(0).error().reason(), v1::ERROR_REASON_INTERNAL);
  EXPECT_NE(first->tasks(0).error().message().find("the hold leaks"), std::string::npos);
  coordinator_.Offer(MakeAssignment(v1::TASK_KIND_PLAN));
  const auto second = coordinator_.WaitFor(
      [](const Request& r) { return Ended(r) && r.tasks(0).lease().kind() == v1::TASK_KIND_PLAN; });
  ASSERT_TRUE(second);
  EXPECT_EQ(second->tasks(0).error().reason(), v1::ERROR_REASON_INTERNAL);
  coordinator_.Offer(MakeAssignment(v1::TASK_KIND_INSPECT));
  EXPECT_TRUE(coordinator_.WaitFor([](const Request& r) { return Ended(r) && r.tasks(0).has_inspection_json(); }));
}

TEST_F(AgentTest, AnAnswerTooLargeToSendIsAnErrorInsteadOfASilentWorker) {
  coordinator_.Start();
  StartAgent();
  runner_.plan = [](TaskControl&) {
    v1::PlanSummary summary;
    summary.set_plan_json(std::string(std::size_t{49} << 20, ' '));
    return summary;
  };
  coordinator_.Offer(MakeAssignment(v1::TASK_KIND_VALIDATE));
  const auto request = coordinator_.WaitFor(Ended);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->tasks(0).error().reason(), v1::ERROR_REASON_LIMIT_EXCEEDED);
}

TEST_F(AgentTest, AKindOfTaskThatThisVersionDoesNotKnowIsRefused) {
  coordinator_.Start();
  StartAgent();
  coordinator_.Offer(MakeAssignment(static_cast<v1::TaskKind>(99)));
  const auto request = coordinator_.WaitFor(Ended);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->tasks(0).error().reason(), v1::ERROR_REASON_INTERNAL);
  EXPECT_EQ(runner_.started, 0);
}

TEST_F(AgentTest, AnIdleWorkerDrainsAtOnceAndSaysGoodbye) {
  coordinator_.Start();
  StartAgent();
  ASSERT_TRUE(coordinator_.WaitFor(Idle));
  agent_->Drain();
  EXPECT_TRUE(drained_.get());
  EXPECT_TRUE(coordinator_.WaitFor([](const Request& r) { return r.draining() && r.free_slots() == 0; }));
}

TEST_F(AgentTest, AnIdleWorkerDrainsWithoutACoordinator) {
  StartAgent();
  agent_->Drain();
  EXPECT_TRUE(drained_.get());
}

TEST_F(AgentTest, ADrainingWorkerFinishesWhatRunsTakesNothingNewAndLeavesWhenThatIsAcknowledged) {
  AgentOptions options = Options();
  options.longest_busy_pause = std::chrono::milliseconds(20);
  std::promise<void> gate;
  runner_.shard = [&gate](TaskControl&) {
    gate.get_future().wait();
    return v1::ShardResult();
  };
  coordinator_.Start();
  StartAgent(options);
  coordinator_.Offer(MakeAssignment(v1::TASK_KIND_SHARD, 0));
  ASSERT_TRUE(coordinator_.WaitFor(Running));
  agent_->Drain();
  coordinator_.Offer(MakeAssignment(v1::TASK_KIND_SHARD, 1));
  ASSERT_TRUE(coordinator_.WaitFor([](const Request& r) { return r.draining() && Running(r); }));
  gate.set_value();
  const auto last = coordinator_.WaitFor(Ended);
  ASSERT_TRUE(last);
  EXPECT_TRUE(last->draining());
  EXPECT_TRUE(last->tasks(0).has_shard());
  EXPECT_TRUE(drained_.get());
  EXPECT_EQ(runner_.started, 1);
}

TEST_F(AgentTest, ATaskThatOutlastsTheDrainIsStoppedAndReportedAsTheWorkersFault) {
  AgentOptions options = Options();
  options.longest_busy_pause = std::chrono::milliseconds(20);
  options.drain_timeout = std::chrono::milliseconds(1);
  runner_.shard = RunUntilCancelled;
  coordinator_.Start();
  StartAgent(options);
  coordinator_.Offer(MakeAssignment(v1::TASK_KIND_SHARD));
  ASSERT_TRUE(coordinator_.WaitFor(Running));
  agent_->Drain();
  const auto request = coordinator_.WaitFor(Ended);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->tasks(0).error().reason(), v1::ERROR_REASON_WORKER_LOST);
  EXPECT_TRUE(drained_.get());
}

}  // namespace
}  // namespace slipway::worker
