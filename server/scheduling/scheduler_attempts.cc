// Attempts: who gets a lease, how it ends badly, and what follows for the export and for the worker.
#include <algorithm>

#include <fmt/format.h>

#include "common/error.h"
#include "server/scheduling/scheduler.h"

namespace slipway::server {
namespace {

constexpr int kMaximumEphemeralTries = 2;
constexpr int kMaximumBackOffDoublings = 4;

std::string Describe(const Task& task) {
  switch (task.kind) {
    case TaskKind::kShard:
      return fmt::format("Shard {}", task.shard);
    case TaskKind::kPublish:
      return "The publication";
    default:
      return "The plan";
  }
}

}  // namespace

std::optional<LeaseKey> Scheduler::Assign(const std::string& name, Instant now) {
  WorkerState* worker = workers_.Find(name);
  if (worker == nullptr || worker->free_slots <= 0) {
    return std::nullopt;
  }
  if (!worker->redeliver.empty()) {
    --worker->free_slots;
    return worker->redeliver.extract(worker->redeliver.begin()).value();
  }
  if (!worker->CanTake(now.monotonic)) {
    return std::nullopt;
  }
  for (const auto& [priority, order, id] : queue_) {
    ScheduledExport& scheduled = exports_.at(id);
    for (Task* task : scheduled.WaitingInOrder()) {
      if (Suits(*worker, scheduled, *task, now)) {
        return Grant(scheduled, *task, *worker, now);
      }
    }
  }
  return std::nullopt;
}

bool Scheduler::Suits(const WorkerState& worker, const ScheduledExport& scheduled, const Task& task,
                      Instant now) const {
  if (now.monotonic < task.not_before) {
    return false;
  }
  const auto waited = now.monotonic - task.not_before;
  if (task.avoid_worker == worker.name && waited < options_.elsewhere &&
      workers_.HasAnother(worker.name, now.monotonic, options_.lease * 2)) {
    return false;
  }
  const std::string& id = scheduled.record.id;
  const bool others = std::ranges::any_of(worker.leases, [&](const LeaseKey& key) { return key.export_id != id; });
  if (task.losses > 0 && waited < options_.alone && others) {
    return false;
  }
  return !HoldsSuspectOfAnother(worker, id);
}

bool Scheduler::HoldsSuspectOfAnother(const WorkerState& worker, const std::string& id) const {
  return std::ranges::any_of(worker.leases, [&](const LeaseKey& key) {
    return key.export_id != id && exports_.at(key.export_id).Find(key.kind, key.shard)->losses > 0;
  });
}

LeaseKey Scheduler::Grant(ScheduledExport& scheduled, Task& task, WorkerState& worker, Instant now) {
  const std::int64_t epoch = ++scheduled.record.last_epoch;
  task.lease = LiveLease{.attempt = {.kind = task.kind,
                                     .shard = task.shard,
                                     .worker = worker.name,
                                     .incarnation = worker.incarnation,
                                     .epoch = epoch,
                                     .start_time = now.wall},
                         .expires = now.monotonic + options_.lease,
                         .moved = now.monotonic};
  LeaseKey key{scheduled.record.id, task.kind, task.shard, epoch};
  worker.leases.insert(key);
  --worker.free_slots;
  if (!scheduled.ephemeral) {
    changes_.attempts.push_back({scheduled.record.id, task.lease->attempt});
  }
  if (task.kind == TaskKind::kPlan) {
    Transition(scheduled, ExportEvent::kPlanLeased, "state", fmt::format("Worker {} makes the plan.", worker.name),
               now);
  }
  Touch(scheduled);
  Settle();
  return key;
}

void Scheduler::CloseAttempt(ScheduledExport& scheduled, Task& task, const absl::Status& error, Instant now) {
  AttemptRecord attempt = std::move(task.lease->attempt);
  task.lease.reset();
  if (WorkerState* worker = workers_.Find(attempt.worker)) {
    const LeaseKey key{scheduled.record.id, task.kind, task.shard, attempt.epoch};
    worker->leases.erase(key);
    worker->redeliver.erase(key);
  }
  attempt.end_time = now.wall;
  attempt.error = error;
  attempt.export_fault = !error.ok() && InfoOf(ReasonOf(error)).fault == Fault::kExport;
  if (!scheduled.ephemeral) {
    changes_.attempts.push_back({scheduled.record.id, attempt});
  }
  scheduled.ended_attempts.push_back(std::move(attempt));
  if (scheduled.ended_attempts.size() > kMaximumShownAttempts) {
    scheduled.ended_attempts.pop_front();
  }
  Touch(scheduled);
}

void Scheduler::FailAttempt(ScheduledExport& scheduled, Task& task, const absl::Status& error, Instant now) {
  CloseAttempt(scheduled, task, error, now);
  if (scheduled.doomed()) {
    return;
  }
  const AttemptRecord attempt = scheduled.ended_attempts.back();
  const Reason reason = ReasonOf(error);
  CountFailure(task, attempt);
  ++counters_.failed_attempts[std::string(InfoOf(reason).name)];
  AppendEvent(scheduled, "attempt-failed",
              fmt::format("{} failed on worker {}: {}", Describe(task), attempt.worker, std::string(error.message())),
              now, task.kind == TaskKind::kShard ? task.shard : -1, error);

  // A worker that hands its work back says CANCELLED or LEASE_LOST: nobody's fault.
  const bool handed_back = reason == Reason::kCancelled || reason == Reason::kLeaseLost;
  const bool exhausted = task.faults >= options_.maximum_faults || task.losses >= options_.maximum_losses ||
                         task.tries >= options_.maximum_tries ||
                         (scheduled.ephemeral && task.tries >= kMaximumEphemeralTries);
  if ((attempt.export_fault && !handed_back) || exhausted) {
    if (scheduled.ephemeral) {
      task.done = true;
      ephemeral_results_.emplace_back(scheduled.record.id, error);
    }
    Doom(scheduled, error, now);
    return;
  }
  if (!handed_back && reason != Reason::kWorkerLost) {
    workers_.CountFault(workers_.Get(attempt.worker), scheduled.record.id, now.monotonic);
  }
  task.avoid_worker = attempt.worker;
  task.not_before = now.monotonic + options_.retry_delay * (1 << std::min(task.tries - 1, kMaximumBackOffDoublings));
  if (task.kind == TaskKind::kPlan) {
    Transition(scheduled, ExportEvent::kPlanReturned, "state", "The plan waits for another attempt.", now);
  }
}

void Scheduler::Expire(Instant now) {
  std::vector<LeaseKey> live;
  for (const auto& [name, worker] : workers_.all()) {
    live.insert(live.end(), worker.leases.begin(), worker.leases.end());
  }
  for (const LeaseKey& key : live) {
    ExpireLease(key, now);
  }
  workers_.Forget(now.monotonic, options_.forget_worker);
  Settle();
}

void Scheduler::ExpireLease(const LeaseKey& key, Instant now) {
  ScheduledExport& scheduled = exports_.at(key.export_id);
  Task& task = *scheduled.Find(key.kind, key.shard);
  const LiveLease& lease = *task.lease;
  const std::string worker = lease.attempt.worker;
  if (now.monotonic >= lease.expires) {
    ++counters_.lease_expirations;
    FailAttempt(scheduled, task,
                Error(Reason::kWorkerLost,
                      fmt::format("Worker {} did not call for {} s.", worker,
                                  std::chrono::duration_cast<std::chrono::seconds>(options_.lease).count())),
                now);
  } else if (lease.revoked_at) {
    if (now.monotonic - *lease.revoked_at >= options_.let_go) {
      workers_.Get(worker).quarantined_until = now.monotonic + options_.quarantine.duration;
      CloseAttempt(scheduled, task, Error(Reason::kWorkerStuck, "The worker ignored the revocation."), now);
    }
  } else if (now.monotonic - lease.moved >= options_.stuck) {
    FailAttempt(scheduled, task,
                Error(Reason::kWorkerStuck, fmt::format("Worker {} calls but makes no progress.", worker)), now);
  }
}

}  // namespace slipway::server
