// A scheduler, a clock that only the test moves, and workers that say what the test wants.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/error.h"
#include "server/scheduling/scheduler.h"

namespace slipway::server {

class SchedulingHarness {
 public:
  explicit SchedulingHarness(SchedulerOptions options = {}) : scheduler(options) {}

  [[nodiscard]] Instant Now() const {
    return {Clock::Monotonic(elapsed_), Clock::Wall(std::chrono::hours(480'000) + elapsed_)};
  }
  void Advance(std::chrono::milliseconds time) { elapsed_ += time; }

  void Submit(const std::string& id, std::int32_t priority = 0) {
    scheduler.Add({.id = id,
                   .order = ++order_,
                   .priority = priority,
                   .create_time = Now().wall,
                   .spec = {},
                   .checkpoint = {},
                   .output = "/out/" + id},
                  Now());
  }

  // One call of a worker: reports, then what it is given.
  struct Answer {
    ReportAnswer said;
    std::vector<LeaseKey> leases;
  };
  Answer Call(const std::string& worker, std::vector<TaskReport> tasks = {}, std::int32_t free_slots = 1,
              const std::string& incarnation = "first") {
    Answer answer{scheduler.Report({.worker = worker,
                                    .incarnation = incarnation,
                                    .version = "1",
                                    .free_slots = free_slots,
                                    .tasks = std::move(tasks)},
                                   Now()),
                  {}};
    while (auto lease = scheduler.Assign(worker, Now())) {
      answer.leases.push_back(*lease);
    }
    return answer;
  }

  // The result that fits the lease's task.
  static Outcome Success(const LeaseKey& lease, int shards = 2) {
    switch (lease.kind) {
      case TaskKind::kPlan:
      case TaskKind::kValidate:
        return Planned{.plan_hash = "hash",
                       .shard_bytes = std::vector<std::int64_t>(static_cast<std::size_t>(shards), 100),
                       .summary = "summary",
                       .plan_json = "{}"};
      case TaskKind::kShard:
        return ShardWritten{"shard", 100, "digest", 100};
      case TaskKind::kPublish:
        return Published{"/out/" + lease.export_id, "digest"};
      case TaskKind::kInspect:
        return Inspected{"{}"};
    }
    return {};
  }
  static TaskReport Done(const LeaseKey& lease, int shards = 2) {
    return {.lease = lease, .bytes_done = 100, .heartbeat = 1'000'000, .outcome = Success(lease, shards)};
  }
  static TaskReport Failed(const LeaseKey& lease, Reason reason) {
    return {.lease = lease, .outcome = Error(reason, "as the test wants")};
  }
  static TaskReport Running(const LeaseKey& lease, std::int64_t heartbeat) {
    return {.lease = lease, .heartbeat = heartbeat};
  }

  // Finishes everything that the worker is given until there is nothing more.
  void WorkUntilIdle(const std::string& worker, int shards = 2) {
    std::vector<TaskReport> reports;
    do {
      const Answer answer = Call(worker, std::exchange(reports, {}));
      for (const LeaseKey& lease : answer.leases) {
        reports.push_back(Done(lease, shards));
      }
      CleanUp();
    } while (!reports.empty());
  }

  // What the coordinator's janitor does; remembers how exports ended.
  void CleanUp() {
    for (const std::string& id : scheduler.TakeDrained()) {
      scheduler.CleanedUp(id, Now());
    }
    for (ExportRecord& record : scheduler.TakeEnded()) {
      ended[record.id] = record;
    }
  }

  [[nodiscard]] ExportState StateOf(const std::string& id) {
    CleanUp();
    const ScheduledExport* live = scheduler.Find(id);
    return live != nullptr ? live->record.state : ended.at(id).state;
  }

  Scheduler scheduler;
  std::map<std::string, ExportRecord> ended;

 private:
  Clock::Monotonic::duration elapsed_ = std::chrono::hours(1);
  std::int64_t order_ = 0;
};

}  // namespace slipway::server
