#include "server/scheduling/scheduler.h"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <variant>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/scheduling/scheduling_harness.h"

namespace slipway::server {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

using Harness = SchedulingHarness;

LeaseKey OnlyLease(const Harness::Answer& answer) {
  EXPECT_THAT(answer.leases, SizeIs(1));
  return answer.leases.empty() ? LeaseKey{} : answer.leases.front();
}

TEST(Scheduler, AnExportGoesThroughPlanShardsAndPublication) {
  Harness harness;
  harness.Submit("a");
  const LeaseKey plan = OnlyLease(harness.Call("w"));
  EXPECT_EQ(plan.kind, TaskKind::kPlan);
  EXPECT_EQ(harness.StateOf("a"), ExportState::kPlanning);
  const LeaseKey first = OnlyLease(harness.Call("w", {Harness::Done(plan)}));
  EXPECT_EQ(first.kind, TaskKind::kShard);
  EXPECT_EQ(harness.StateOf("a"), ExportState::kRunning);
  const LeaseKey second = OnlyLease(harness.Call("w", {Harness::Done(first)}));
  EXPECT_EQ(second.kind, TaskKind::kShard);
  EXPECT_NE(second.shard, first.shard);
  const LeaseKey publish = OnlyLease(harness.Call("w", {Harness::Done(second)}));
  EXPECT_EQ(publish.kind, TaskKind::kPublish);
  EXPECT_EQ(harness.StateOf("a"), ExportState::kPublishing);
  harness.Call("w", {Harness::Done(publish)});
  EXPECT_EQ(harness.StateOf("a"), ExportState::kSucceeded);
  EXPECT_EQ(harness.ended.at("a").artifact_path, "/out/a");
}

TEST(Scheduler, HigherPriorityGoesFirstAndAmongEqualsTheOlder) {
  Harness harness;
  harness.Submit("old-low", -1);
  harness.Submit("old");
  harness.Submit("young");
  harness.Submit("urgent", 5);
  std::vector<std::string> order;
  for (const LeaseKey& lease : harness.Call("w", {}, 4).leases) {
    order.push_back(lease.export_id);
  }
  EXPECT_THAT(order, ElementsAre("urgent", "old", "young", "old-low"));
}

TEST(Scheduler, ShardsOfOneExportGoToSeveralWorkers) {
  Harness harness;
  harness.Submit("a");
  const LeaseKey plan = OnlyLease(harness.Call("w1"));
  const LeaseKey first = OnlyLease(harness.Call("w1", {Harness::Done(plan)}));
  const LeaseKey second = OnlyLease(harness.Call("w2"));
  EXPECT_EQ(second.export_id, "a");
  EXPECT_NE(second.shard, first.shard);
  EXPECT_GT(second.epoch, first.epoch);
}

TEST(Scheduler, MuchLargerShardsGoFirstAndLikeOnesInTheirOrder) {
  Harness harness;
  harness.Submit("a");
  TaskReport planned = Harness::Done(OnlyLease(harness.Call("w")));
  std::get<Planned>(planned.outcome).shard_bytes = {100, 110, 1'000'000, 90, 3};
  std::vector<std::int32_t> order;
  for (const LeaseKey& lease : harness.Call("w", {planned}, 5).leases) {
    order.push_back(lease.shard);
  }
  EXPECT_THAT(order, ElementsAre(2, 0, 1, 3, 4));
}

TEST(Scheduler, PublicationWaitsForTheLastShard) {
  Harness harness;
  harness.Submit("a");
  const LeaseKey plan = OnlyLease(harness.Call("w1"));
  const LeaseKey first = OnlyLease(harness.Call("w1", {Harness::Done(plan)}));
  const LeaseKey second = OnlyLease(harness.Call("w2"));
  EXPECT_THAT(harness.Call("w1", {Harness::Done(first)}).leases, IsEmpty());
  EXPECT_EQ(OnlyLease(harness.Call("w2", {Harness::Done(second)})).kind, TaskKind::kPublish);
}

TEST(Scheduler, AWorkerThatIsSilentForALeaseLosesItsTaskToAnother) {
  Harness harness;
  harness.Submit("a");
  const LeaseKey lost = OnlyLease(harness.Call("w1"));
  harness.Advance(seconds(14));
  harness.scheduler.Expire(harness.Now());
  EXPECT_THAT(harness.Call("w2").leases, IsEmpty());
  harness.Advance(seconds(2));
  harness.scheduler.Expire(harness.Now());
  harness.Advance(seconds(1));
  const LeaseKey again = OnlyLease(harness.Call("w2"));
  EXPECT_EQ(again.kind, TaskKind::kPlan);
  EXPECT_GT(again.epoch, lost.epoch);
  EXPECT_EQ(harness.scheduler.counters().lease_expirations, 1);
}

TEST(Scheduler, AStaleWorkerIsFencedWhateverItReports) {
  Harness harness;
  harness.Submit("a");
  const LeaseKey lost = OnlyLease(harness.Call("w1"));
  harness.Advance(seconds(16));
  harness.scheduler.Expire(harness.Now());
  harness.Advance(seconds(1));
  OnlyLease(harness.Call("w2"));
  const Harness::Answer running = harness.Call("w1", {Harness::Running(lost, 5)}, 0);
  EXPECT_THAT(running.said.revoked, ElementsAre(lost));
  const Harness::Answer done = harness.Call("w1", {Harness::Done(lost)}, 0);
  EXPECT_THAT(done.said.acknowledged, ElementsAre(lost));
  EXPECT_EQ(harness.StateOf("a"), ExportState::kPlanning);
  EXPECT_EQ(harness.scheduler.counters().fenced_reports, 1);
}

TEST(Scheduler, AReportThatComesTwiceIsAcknowledgedTwiceAndCountsOnce) {
  Harness harness;
  harness.Submit("a");
  const LeaseKey plan = OnlyLease(harness.Call("w"));
  EXPECT_THAT(harness.Call("w", {Harness::Done(plan)}, 0).said.acknowledged, ElementsAre(plan));
  EXPECT_THAT(harness.Call("w", {Harness::Done(plan)}, 0).said.acknowledged, ElementsAre(plan));
  EXPECT_THAT(harness.scheduler.Find("a")->shards, SizeIs(2));
}

TEST(Scheduler, AWorkerThatCallsButStandsStillIsStuckAndItsTaskGoesElsewhere) {
  Harness harness;
  harness.Submit("a");
  const LeaseKey stuck = OnlyLease(harness.Call("w1"));
  for (int second = 0; second < 130; second += 5) {
    harness.Advance(seconds(5));
    harness.Call("w1", {Harness::Running(stuck, 7)}, 0);
    harness.scheduler.Expire(harness.Now());
  }
  const ScheduledExport* live = harness.scheduler.Find("a");
  ASSERT_THAT(live->ended_attempts, SizeIs(1));
  EXPECT_EQ(ReasonOf(live->ended_attempts.front().error), Reason::kWorkerStuck);
  EXPECT_EQ(OnlyLease(harness.Call("w2")).kind, TaskKind::kPlan);
}

TEST(Scheduler, AHeartbeatThatMovesKeepsALeaseForEver) {
  Harness harness;
  harness.Submit("a");
  const LeaseKey lease = OnlyLease(harness.Call("w1"));
  for (int beat = 0; beat < 1000; ++beat) {
    harness.Advance(seconds(10));
    EXPECT_THAT(harness.Call("w1", {Harness::Running(lease, beat)}, 0).said.revoked, IsEmpty());
    harness.scheduler.Expire(harness.Now());
  }
  EXPECT_THAT(harness.scheduler.Find("a")->ended_attempts, IsEmpty());
}

TEST(Scheduler, ARestartedWorkerHasLostItsLeases) {
  Harness harness;
  harness.Submit("a");
  OnlyLease(harness.Call("w", {}, 1, "first"));
  EXPECT_THAT(harness.Call("w", {}, 1, "second").leases, IsEmpty());  // not before the retry's delay
  const ScheduledExport* live = harness.scheduler.Find("a");
  ASSERT_THAT(live->ended_attempts, SizeIs(1));
  EXPECT_EQ(ReasonOf(live->ended_attempts.front().error), Reason::kWorkerLost);
  harness.Advance(seconds(1));
  EXPECT_EQ(OnlyLease(harness.Call("w", {}, 1, "second")).kind, TaskKind::kPlan);
}

TEST(Scheduler, AnAssignmentThatGotLostOnTheWayIsHandedOutAgainUnderItsEpoch) {
  Harness harness;
  harness.Submit("a");
  const LeaseKey lease = OnlyLease(harness.Call("w"));
  EXPECT_EQ(OnlyLease(harness.Call("w")), lease);
  EXPECT_EQ(harness.scheduler.Find("a")->record.last_epoch, lease.epoch);
}

TEST(Scheduler, AFaultOfTheExportEndsItAtOnceWithItsReason) {
  Harness harness;
  harness.Submit("a");
  const LeaseKey plan = OnlyLease(harness.Call("w"));
  harness.Call("w", {Harness::Failed(plan, Reason::kTensorUnknown)});
  EXPECT_EQ(harness.StateOf("a"), ExportState::kFailed);
  EXPECT_EQ(ReasonOf(harness.ended.at("a").error), Reason::kTensorUnknown);
}

TEST(Scheduler, AFaultOfTheWorkerIsTriedAgainElsewhereUpToTheLimit) {
  Harness harness;
  harness.Submit("a");
  harness.Call("w2", {}, 0);
  LeaseKey plan = OnlyLease(harness.Call("w1"));
  EXPECT_THAT(harness.Call("w1", {Harness::Failed(plan, Reason::kCheckpointUnreadable)}).leases, IsEmpty());
  harness.Advance(seconds(1));
  EXPECT_THAT(harness.Call("w1").leases, IsEmpty()) << "another worker is there";
  plan = OnlyLease(harness.Call("w2"));
  harness.Call("w2", {Harness::Failed(plan, Reason::kCheckpointUnreadable)}, 0);
  harness.Advance(seconds(1));
  plan = OnlyLease(harness.Call("w1"));
  harness.Call("w1", {Harness::Failed(plan, Reason::kCheckpointUnreadable)}, 0);
  EXPECT_EQ(harness.StateOf("a"), ExportState::kFailed);
  EXPECT_EQ(ReasonOf(harness.ended.at("a").error), Reason::kCheckpointUnreadable);
}

TEST(Scheduler, ALoneWorkerMayTryItsOwnFailureAgain) {
  Harness harness;
  harness.Submit("a");
  const LeaseKey plan = OnlyLease(harness.Call("w"));
  harness.Call("w", {Harness::Failed(plan, Reason::kCheckpointUnreadable)});
  harness.Advance(seconds(1));
  EXPECT_EQ(OnlyLease(harness.Call("w")).kind, TaskKind::kPlan);
}

TEST(Scheduler, WorkThatAWorkerHandsBackIsNobodysFault) {
  Harness harness;
  harness.Submit("a");
  for (int i = 0; i < 10; ++i) {
    const LeaseKey plan = OnlyLease(harness.Call("w"));
    harness.Call("w", {Harness::Failed(plan, Reason::kCancelled)}, 0);
    harness.Advance(seconds(10));
  }
  EXPECT_EQ(harness.StateOf("a"), ExportState::kQueued);
}

TEST(Scheduler, AnExportThatKillsWorkersEndsFailedAndTakesNoOtherWithIt) {
  Harness harness;
  harness.Submit("poison");
  harness.Submit("innocent");
  int kills = 0;
  for (int step = 0; step < 200 && (!harness.ended.contains("poison") || !harness.ended.contains("innocent")); ++step) {
    const std::string incarnation = std::to_string(kills);
    std::vector<TaskReport> reports;
    bool killed = false;
    while (!killed) {
      const Harness::Answer answer = harness.Call("w", std::exchange(reports, {}), 4, incarnation);
      for (const LeaseKey& lease : answer.leases) {
        killed = killed || (lease.export_id == "poison" && lease.kind == TaskKind::kShard);
        reports.push_back(Harness::Done(lease));
      }
      harness.CleanUp();
      if (answer.leases.empty()) {
        break;
      }
    }
    kills += killed ? 1 : 0;
    harness.Advance(seconds(5));
  }
  EXPECT_EQ(harness.StateOf("innocent"), ExportState::kSucceeded);
  EXPECT_EQ(harness.StateOf("poison"), ExportState::kFailed);
  EXPECT_EQ(ReasonOf(harness.ended.at("poison").error), Reason::kWorkerLost);
  EXPECT_LE(kills, SchedulerOptions().maximum_losses + 1);
}

TEST(Scheduler, AWorkerOnWhichSeveralExportsFailIsQuarantinedForAWhile) {
  Harness harness;
  for (const char* id : {"a", "b", "c"}) {
    harness.Submit(id);
  }
  std::vector<TaskReport> failures;
  for (const LeaseKey& lease : harness.Call("bad", {}, 3).leases) {
    failures.push_back(Harness::Failed(lease, Reason::kInternal));
  }
  harness.Call("bad", failures, 3);
  harness.Advance(seconds(30));
  EXPECT_THAT(harness.Call("bad", {}, 3).leases, IsEmpty());
  EXPECT_THAT(harness.Call("good", {}, 3).leases, SizeIs(3));
}

TEST(Scheduler, CancellingSomethingThatWaitsEndsItWithoutAWorker) {
  Harness harness;
  harness.Submit("a");
  harness.scheduler.Cancel("a", harness.Now());
  EXPECT_EQ(harness.StateOf("a"), ExportState::kCancelled);
}

TEST(Scheduler, CancellationIsFinalOnlyWhenTheWorkerHasLetGo) {
  Harness harness;
  harness.Submit("a");
  const LeaseKey lease = OnlyLease(harness.Call("w"));
  harness.scheduler.Cancel("a", harness.Now());
  EXPECT_THAT(harness.Call("w", {Harness::Running(lease, 1)}).said.revoked, ElementsAre(lease));
  EXPECT_EQ(harness.StateOf("a"), ExportState::kCancelling);
  harness.Call("w");
  EXPECT_EQ(harness.StateOf("a"), ExportState::kCancelled);
}

TEST(Scheduler, CancellationDoesNotWaitForAWorkerThatIsGone) {
  Harness harness;
  harness.Submit("a");
  OnlyLease(harness.Call("w"));
  harness.scheduler.Cancel("a", harness.Now());
  harness.Advance(seconds(16));
  harness.scheduler.Expire(harness.Now());
  EXPECT_EQ(harness.StateOf("a"), ExportState::kCancelled);
}

TEST(Scheduler, AWorkerThatIgnoresARevocationIsFencedAndQuarantined) {
  Harness harness;
  harness.Submit("a");
  const LeaseKey lease = OnlyLease(harness.Call("w"));
  harness.scheduler.Cancel("a", harness.Now());
  for (int second = 0; second < 65; second += 5) {
    harness.Advance(seconds(5));
    harness.Call("w", {Harness::Running(lease, second)});
    harness.scheduler.Expire(harness.Now());
  }
  EXPECT_EQ(harness.StateOf("a"), ExportState::kCancelled);
  harness.Submit("b");
  EXPECT_THAT(harness.Call("w").leases, IsEmpty());
}

TEST(Scheduler, AnArtifactThatIsInPlaceBeatsACancellation) {
  Harness harness;
  harness.Submit("a");
  const LeaseKey plan = OnlyLease(harness.Call("w"));
  const LeaseKey shard = OnlyLease(harness.Call("w", {Harness::Done(plan, 1)}));
  const LeaseKey publish = OnlyLease(harness.Call("w", {Harness::Done(shard)}));
  ASSERT_EQ(publish.kind, TaskKind::kPublish);
  harness.scheduler.Cancel("a", harness.Now());
  harness.Call("w", {Harness::Done(publish)});
  EXPECT_EQ(harness.StateOf("a"), ExportState::kSucceeded);
}

TEST(Scheduler, AFailureIsFinalOnlyWhenAllOtherLeasesAreGone) {
  Harness harness;
  harness.Submit("a");
  const LeaseKey plan = OnlyLease(harness.Call("w1"));
  const LeaseKey first = OnlyLease(harness.Call("w1", {Harness::Done(plan)}));
  const LeaseKey second = OnlyLease(harness.Call("w2"));
  harness.Call("w1", {Harness::Failed(first, Reason::kOutputDiskFull)});
  EXPECT_EQ(harness.StateOf("a"), ExportState::kRunning);
  EXPECT_THAT(harness.Call("w2", {Harness::Running(second, 1)}).said.revoked, ElementsAre(second));
  harness.Call("w2", {Harness::Failed(second, Reason::kCancelled)});
  EXPECT_EQ(harness.StateOf("a"), ExportState::kFailed);
  EXPECT_EQ(ReasonOf(harness.ended.at("a").error), Reason::kOutputDiskFull);
}

TEST(Scheduler, EventsAreNumberedWithoutAGap) {
  Harness harness;
  harness.Submit("a");
  harness.WorkUntilIdle("w");
  std::int64_t expected = 0;
  for (const Changes::Event& event : harness.scheduler.TakeChanges().events) {
    EXPECT_EQ(event.record.sequence, ++expected);
  }
  EXPECT_EQ(expected, harness.ended.at("a").last_sequence);
  EXPECT_GE(expected, 6);  // created, planning, planned, two shards, publishing, published
}

TEST(Scheduler, EventsCountInWords) {
  for (const auto& [shards, words] : {std::pair(1, "has 1 shard."), std::pair(2, "has 2 shards.")}) {
    Harness harness;
    harness.Submit("a");
    harness.WorkUntilIdle("w", shards);
    const Changes changes = harness.scheduler.TakeChanges();
    EXPECT_TRUE(std::ranges::any_of(changes.events, [&words = words](const Changes::Event& event) {
      return event.record.message.find(words) != std::string::npos;
    })) << words;
  }
}

TEST(Scheduler, ADrainingWorkerIsGivenNothingNew) {
  Harness harness;
  harness.Submit("a");
  harness.scheduler.Report({.worker = "w", .incarnation = "1", .version = {}, .free_slots = 1, .draining = true},
                           harness.Now());
  EXPECT_EQ(harness.scheduler.Assign("w", harness.Now()), std::nullopt);
}

TEST(Scheduler, AnEphemeralTaskGoesBeforeEverythingAndLeavesNothing) {
  Harness harness;
  harness.Submit("urgent", 100);
  (void)harness.scheduler.TakeChanges();
  harness.scheduler.AddEphemeral("inspect-1", TaskKind::kInspect, harness.Now());
  const LeaseKey lease = OnlyLease(harness.Call("w"));
  EXPECT_EQ(lease.export_id, "inspect-1");
  harness.Call("w", {Harness::Done(lease)}, 0);
  const auto results = harness.scheduler.TakeEphemeralResults();
  ASSERT_THAT(results, SizeIs(1));
  EXPECT_TRUE(std::holds_alternative<Inspected>(results.front().second));
  harness.scheduler.DropEphemeral("inspect-1");
  EXPECT_TRUE(harness.scheduler.TakeChanges().empty());
}

TEST(Scheduler, ResultsThatDoNotFitTheirTaskAreTheWorkersFault) {
  Harness harness;
  harness.Submit("a");
  const LeaseKey plan = OnlyLease(harness.Call("w"));
  harness.Call("w", {{.lease = plan, .outcome = Published{"/elsewhere", "digest"}}}, 0);
  const ScheduledExport* live = harness.scheduler.Find("a");
  EXPECT_EQ(live->record.state, ExportState::kQueued);
  ASSERT_THAT(live->ended_attempts, SizeIs(1));
  EXPECT_EQ(ReasonOf(live->ended_attempts.front().error), Reason::kInternal);
}

}  // namespace
}  // namespace slipway::server
