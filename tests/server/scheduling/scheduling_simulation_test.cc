// Seeded random histories of exports, workers and crashes; promises are checked after every step.
#include <algorithm>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "tests/server/scheduling/scheduling_harness.h"

namespace slipway::server {
namespace {

using std::chrono::milliseconds;

// What a store would hold: every TakeChanges applied.
class RememberedStore {
 public:
  void Apply(const Changes& changes) {
    for (const ExportRecord& record : changes.exports) {
      ExportHistory& history = exports_[record.id];
      if (IsFinal(history.record.state) && !history.record.id.empty()) {
        EXPECT_EQ(history.record.state, record.state) << "a final state changed: " << record.id;
      }
      EXPECT_GE(record.last_epoch, history.record.last_epoch);
      history.record = record;
    }
    for (const Changes::Shard& shard : changes.shards) {
      auto& shards = exports_[shard.export_id].shards;
      const auto number = static_cast<std::size_t>(shard.record.number);
      shards.resize(std::max(shards.size(), number + 1));
      EXPECT_TRUE(!shards[number].done || shard.record.done) << "a finished shard was undone";
      shards[number] = shard.record;
    }
    for (const Changes::Attempt& attempt : changes.attempts) {
      auto& attempts = attempts_[attempt.export_id];
      const auto known = attempts.find(attempt.record.epoch);
      if (known == attempts.end()) {
        EXPECT_TRUE(attempts.empty() || attempt.record.epoch > attempts.rbegin()->first) << "an epoch did not grow";
      } else {
        EXPECT_FALSE(known->second.end_time) << "an epoch was given twice";
      }
      attempts[attempt.record.epoch] = attempt.record;
    }
    for (const Changes::Event& event : changes.events) {
      EXPECT_EQ(event.record.sequence, ++sequences_[event.export_id]) << "an event gap";
    }
  }

  [[nodiscard]] std::vector<ExportHistory> Unfinished() const {
    std::vector<ExportHistory> unfinished;
    for (const auto& [id, history] : exports_) {
      if (!IsFinal(history.record.state)) {
        unfinished.push_back(history);
        if (const auto attempts = attempts_.find(id); attempts != attempts_.end()) {
          for (const auto& [epoch, attempt] : attempts->second) {
            unfinished.back().attempts.push_back(attempt);
          }
        }
      }
    }
    return unfinished;
  }
  [[nodiscard]] const std::map<std::string, ExportHistory>& exports() const { return exports_; }

 private:
  std::map<std::string, ExportHistory> exports_;
  std::map<std::string, std::map<std::int64_t, AttemptRecord>> attempts_;
  std::map<std::string, std::int64_t> sequences_;
};

struct SimulatedWorker {
  int incarnation = 0;
  std::map<LeaseKey, std::int64_t> tasks;  // with heartbeat
};

class Simulation {
 public:
  explicit Simulation(unsigned seed) : random_(seed), scheduler_(std::make_unique<Scheduler>(SchedulerOptions{})) {}

  void Run(int steps) {
    for (int step = 0; step < steps && !testing::Test::HasFailure(); ++step) {
      Step();
      Settle();
    }
    // From now on everybody behaves: everything must end.
    for (int round = 0; round < 4000 && !scheduler_->exports().empty(); ++round) {
      now_ += milliseconds(500);
      for (int worker = 0; worker < kWorkers; ++worker) {
        Call(worker, /*obedient=*/true);
      }
      scheduler_->Expire(Now());
      Settle();
    }
    EXPECT_TRUE(scheduler_->exports().empty()) << scheduler_->exports().size() << " exports never ended";
    for (const auto& [id, history] : store_.exports()) {
      EXPECT_TRUE(IsFinal(history.record.state)) << id;
      EXPECT_EQ(history.record.state == ExportState::kFailed, !history.record.error.ok()) << id;
      EXPECT_TRUE(history.record.state != ExportState::kSucceeded ||
                  std::ranges::all_of(history.shards, &ShardRecord::done))
          << id << " succeeded without all of its shards";
    }
    EXPECT_EQ(store_.exports().size(), static_cast<std::size_t>(created_));
  }

 private:
  static constexpr int kWorkers = 4;

  [[nodiscard]] int Chance(int of) { return static_cast<int>(random_() % static_cast<unsigned>(of)); }
  [[nodiscard]] Instant Now() const { return {Clock::Monotonic(now_), Clock::Wall(now_)}; }

  void Step() {
    now_ += milliseconds(Chance(2000));
    const int dice = Chance(100);
    if (dice < 15) {
      const std::string id = "e" + std::to_string(++created_);
      scheduler_->Add({.id = id,
                       .order = created_,
                       .priority = Chance(5) - 2,
                       .create_time = Now().wall,
                       .spec = {},
                       .checkpoint = {},
                       .output = {}},
                      Now());
    } else if (dice < 18 && created_ > 0) {
      scheduler_->Cancel("e" + std::to_string(1 + Chance(created_)), Now());
    } else if (dice < 22) {
      SimulatedWorker& worker = workers_[Chance(kWorkers)];  // killed and started again
      ++worker.incarnation;
      worker.tasks.clear();
    } else if (dice < 24) {
      RestartCoordinator();
    } else if (dice < 26) {
      now_ += std::chrono::seconds(20);  // everybody was silent for longer than a lease
    } else {
      Call(Chance(kWorkers), /*obedient=*/false);
    }
    scheduler_->Expire(Now());
  }

  // One call of a worker; a disobedient one may lose the answer, fail its tasks, or stand still.
  void Call(int number, bool obedient) {
    SimulatedWorker& worker = workers_[number];
    const std::string name = "w" + std::to_string(number);
    WorkerReport report{.worker = name,
                        .incarnation = std::to_string(worker.incarnation),
                        .version = {},
                        .free_slots = std::max(0, 2 - static_cast<int>(worker.tasks.size()))};
    for (auto& [lease, heartbeat] : worker.tasks) {
      report.tasks.push_back(ReportOf(lease, heartbeat, obedient));
    }
    const ReportAnswer said = scheduler_->Report(report, Now());
    std::vector<LeaseKey> leases;
    while (const auto lease = scheduler_->Assign(name, Now())) {
      leases.push_back(*lease);
    }
    Settle();  // the commit comes before the answer
    if (!obedient && Chance(20) == 0) {
      return;  // the answer got lost
    }
    for (const LeaseKey& lease : said.acknowledged) {
      worker.tasks.erase(lease);
    }
    for (const LeaseKey& lease : said.revoked) {
      worker.tasks.erase(lease);
    }
    for (const LeaseKey& lease : leases) {
      worker.tasks.emplace(lease, 0);
    }
  }

  TaskReport ReportOf(const LeaseKey& lease, std::int64_t& heartbeat, bool obedient) {
    const int dice = Chance(100);
    if (obedient || dice < 40) {
      return SchedulingHarness::Done(lease, 1 + static_cast<int>(lease.export_id.size()) % 4);
    }
    if (dice < 42) {
      return SchedulingHarness::Failed(lease, Reason::kTensorMissing);
    }
    if (dice < 48) {
      return SchedulingHarness::Failed(lease, Reason::kCheckpointUnreadable);
    }
    heartbeat += dice < 90 ? 1 : 0;
    return SchedulingHarness::Running(lease, heartbeat);
  }

  void RestartCoordinator() {
    scheduler_ = std::make_unique<Scheduler>(SchedulerOptions{});
    for (ExportHistory& history : store_.Unfinished()) {
      scheduler_->Restore(std::move(history), Now());
    }
    clean_.clear();
  }

  // The coordinator's part after every step: clean up now or later, commit, check.
  void Settle() {
    for (const std::string& id : scheduler_->TakeDrained()) {
      clean_.push_back(id);
    }
    if (Chance(3) != 0) {
      for (const std::string& id : std::exchange(clean_, {})) {
        scheduler_->CleanedUp(id, Now());
      }
    }
    for (const ExportRecord& record : scheduler_->TakeEnded()) {
      EXPECT_TRUE(IsFinal(record.state));
    }
    store_.Apply(scheduler_->TakeChanges());
    CheckLeases();
  }

  // A task has at most one live lease, and the worker table agrees with the exports about who holds what.
  void CheckLeases() {
    std::set<LeaseKey> held;
    for (const auto& [name, worker] : scheduler_->workers().all()) {
      for (const LeaseKey& lease : worker.leases) {
        EXPECT_TRUE(held.insert(lease).second) << "two workers hold one lease";
      }
    }
    std::size_t live = 0;
    for (const auto& [id, scheduled] : scheduler_->exports()) {
      ScheduledExport copy = scheduled;
      for (const Task* task : copy.Leased()) {
        ++live;
        EXPECT_TRUE(held.contains({id, task->kind, task->shard, task->lease->attempt.epoch}));
        EXPECT_LE(task->lease->attempt.epoch, scheduled.record.last_epoch);
      }
      EXPECT_FALSE(IsFinal(scheduled.record.state));
    }
    EXPECT_EQ(live, held.size());
  }

  std::mt19937 random_;
  std::unique_ptr<Scheduler> scheduler_;
  RememberedStore store_;
  std::map<int, SimulatedWorker> workers_;
  std::vector<std::string> clean_;
  Clock::Monotonic::duration now_ = std::chrono::hours(1);
  int created_ = 0;
};

class SchedulingSimulation : public testing::TestWithParam<unsigned> {};

TEST_P(SchedulingSimulation, EveryExportEndsOnceWhateverCrashes) { Simulation(GetParam()).Run(2000); }

INSTANTIATE_TEST_SUITE_P(Seeds, SchedulingSimulation, testing::Range(1U, 9U));

}  // namespace
}  // namespace slipway::server
