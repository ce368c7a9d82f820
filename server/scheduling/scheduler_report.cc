// What workers report: leases confirmed, results accepted or discarded.
#include <algorithm>

#include <fmt/format.h>

#include "common/count_of.h"
#include "common/error.h"
#include "server/scheduling/scheduler.h"

namespace slipway::server {
namespace {

constexpr std::size_t kMaximumShards = 65536;

absl::Status Misfit(const char* what) {
  return Error(Reason::kInternal, fmt::format("The worker's result does not fit its task: {}.", what));
}

}  // namespace

ReportAnswer Scheduler::Report(const WorkerReport& report, Instant now) {
  WorkerState& worker = workers_.Get(report.worker);
  if (worker.incarnation != report.incarnation) {
    LoseLeases(worker, "the worker was restarted", now);
    worker.incarnation = report.incarnation;
    worker.redeliver.clear();
  }
  worker.version = report.version;
  worker.last_call = now.monotonic;
  worker.free_slots = std::max(report.free_slots, 0);
  worker.draining = report.draining;

  ReportAnswer answer;
  std::set<LeaseKey> listed;
  for (const TaskReport& task : report.tasks) {
    listed.insert(task.lease);
    ReportTask(task, worker, now, answer);
  }
  ConfirmLeases(worker, listed, now);
  answer.busy = !worker.leases.empty();
  Settle();
  return answer;
}

void Scheduler::ReportTask(const TaskReport& report, WorkerState& worker, Instant now, ReportAnswer& answer) {
  const bool finished = !std::holds_alternative<StillRunning>(report.outcome);
  if (!worker.leases.contains(report.lease)) {
    // Finished and reported twice, or under a lease that is dead: the worker may forget it either way.
    counters_.fenced_reports += finished ? 1 : 0;
    (finished ? answer.acknowledged : answer.revoked).push_back(report.lease);
    return;
  }
  ScheduledExport& scheduled = exports_.at(report.lease.export_id);
  Task& task = *scheduled.Find(report.lease.kind, report.lease.shard);
  if (finished) {
    Finish(scheduled, task, report.outcome, now);
    answer.acknowledged.push_back(report.lease);
    return;
  }
  NoteMovement(scheduled, *task.lease, report, now);
  if (task.lease->revoked_at) {
    answer.revoked.push_back(report.lease);
  }
}

void Scheduler::NoteMovement(ScheduledExport& scheduled, LiveLease& lease, const TaskReport& report, Instant now) {
  lease.expires = now.monotonic + options_.lease;
  if (report.heartbeat != lease.heartbeat) {
    lease.heartbeat = report.heartbeat;
    lease.moved = now.monotonic;
  }
  if (report.bytes_done != lease.bytes_done) {
    lease.bytes_done = report.bytes_done;
    moved_.insert(scheduled.record.id);
  }
}

void Scheduler::Finish(ScheduledExport& scheduled, Task& task, const Outcome& outcome, Instant now) {
  if (scheduled.ephemeral) {
    FinishEphemeral(scheduled, task, outcome, now);
    return;
  }
  if (const auto* error = std::get_if<absl::Status>(&outcome)) {
    FailAttempt(scheduled, task, error->ok() ? Misfit("an error that says OK") : *error, now);
    return;
  }
  if (const absl::Status accepted = Accept(scheduled, task, outcome, now); !accepted.ok()) {
    FailAttempt(scheduled, task, accepted, now);
    return;
  }
  CloseAttempt(scheduled, task, absl::OkStatus(), now);
}

absl::Status Scheduler::Accept(ScheduledExport& scheduled, Task& task, const Outcome& outcome, Instant now) {
  const auto* published = std::get_if<Published>(&outcome);
  if (task.kind == TaskKind::kPublish && published != nullptr) {
    return AcceptPublication(scheduled, *published, now);
  }
  if (scheduled.doomed()) {
    return Error(Reason::kCancelled, "The export was ending when the result came.");
  }
  const auto* planned = std::get_if<Planned>(&outcome);
  if (task.kind == TaskKind::kPlan && planned != nullptr) {
    return AcceptPlan(scheduled, *planned, now);
  }
  const auto* written = std::get_if<ShardWritten>(&outcome);
  if (task.kind == TaskKind::kShard && written != nullptr) {
    return AcceptShard(scheduled, task, *written, now);
  }
  return Misfit("it is of another kind");
}

absl::Status Scheduler::AcceptPlan(ScheduledExport& scheduled, const Planned& planned, Instant now) {
  if (planned.plan_hash.empty()) {
    return Misfit("the plan has no hash");
  }
  if (planned.shard_bytes.size() > kMaximumShards) {
    return Error(Reason::kLimitExceeded, fmt::format("The plan has {} shards, more than {}; raise the shard size.",
                                                     planned.shard_bytes.size(), kMaximumShards));
  }
  if (std::ranges::any_of(planned.shard_bytes, [](std::int64_t bytes) { return bytes < 0; })) {
    return Misfit("a shard has a negative size");
  }
  scheduled.plan.done = true;
  scheduled.record.plan_hash = planned.plan_hash;
  scheduled.record.plan = planned.summary;
  for (const std::int64_t bytes : planned.shard_bytes) {
    const auto number = static_cast<std::int32_t>(scheduled.shards.size());
    scheduled.shards.push_back({.number = number, .bytes = bytes});
    scheduled.shard_tasks.push_back({.kind = TaskKind::kShard, .shard = number});
    changed_shards_.insert({scheduled.record.id, number});
  }
  Transition(scheduled, ExportEvent::kPlanned, "planned",
             fmt::format("The plan {} has {}.", planned.plan_hash.substr(0, 16),
                         CountOf(static_cast<std::int64_t>(scheduled.shards.size()), "shard")),
             now);
  if (scheduled.shards.empty()) {
    Transition(scheduled, ExportEvent::kShardsDone, "state", "There is nothing to write but texts.", now);
  }
  return absl::OkStatus();
}

absl::Status Scheduler::AcceptShard(ScheduledExport& scheduled, Task& task, const ShardWritten& written, Instant now) {
  task.done = true;
  ShardRecord& shard = scheduled.shards[static_cast<std::size_t>(task.shard)];
  shard.done = true;
  shard.file = written.file;
  shard.digest = written.digest;
  changed_shards_.insert({scheduled.record.id, task.shard});
  AppendEvent(scheduled, "shard-done", fmt::format("{} is written.", written.file), now, task.shard, absl::OkStatus());
  if (std::ranges::all_of(scheduled.shards, &ShardRecord::done)) {
    Transition(scheduled, ExportEvent::kShardsDone, "state", "All shards are written.", now);
  }
  return absl::OkStatus();
}

absl::Status Scheduler::AcceptPublication(ScheduledExport& scheduled, const Published& published, Instant now) {
  if (published.path.empty()) {
    return Misfit("the publication has no path");
  }
  scheduled.publish.done = true;
  scheduled.record.artifact_path = published.path;
  scheduled.record.manifest_digest = published.manifest_digest;
  scheduled.record.end_time = now.wall;
  Transition(scheduled, ExportEvent::kPublished, "published", fmt::format("The artifact is {}.", published.path), now);
  return absl::OkStatus();
}

void Scheduler::FinishEphemeral(ScheduledExport& scheduled, Task& task, const Outcome& outcome, Instant now) {
  if (const auto* error = std::get_if<absl::Status>(&outcome)) {
    FailAttempt(scheduled, task, *error, now);
    return;
  }
  const bool fits = task.kind == TaskKind::kValidate ? std::holds_alternative<Planned>(outcome)
                                                     : std::holds_alternative<Inspected>(outcome);
  if (!fits) {
    FailAttempt(scheduled, task, Misfit("it is of another kind"), now);
    return;
  }
  CloseAttempt(scheduled, task, absl::OkStatus(), now);
  task.done = true;
  ephemeral_results_.emplace_back(scheduled.record.id, outcome);
}

void Scheduler::ConfirmLeases(WorkerState& worker, const std::set<LeaseKey>& listed, Instant now) {
  worker.redeliver.clear();
  const std::set<LeaseKey> held = worker.leases;
  for (const LeaseKey& key : held) {
    if (listed.contains(key)) {
      continue;
    }
    ScheduledExport& scheduled = exports_.at(key.export_id);
    Task& task = *scheduled.Find(key.kind, key.shard);
    if (task.lease->revoked_at) {
      CloseAttempt(scheduled, task, Error(Reason::kCancelled, "The worker let go."), now);
    } else {
      task.lease->expires = now.monotonic + options_.lease;
      worker.redeliver.insert(key);
    }
  }
}

void Scheduler::LoseLeases(WorkerState& worker, const std::string& why, Instant now) {
  const std::set<LeaseKey> held = worker.leases;
  for (const LeaseKey& key : held) {
    ScheduledExport& scheduled = exports_.at(key.export_id);
    FailAttempt(scheduled, *scheduled.Find(key.kind, key.shard),
                Error(Reason::kWorkerLost, fmt::format("Worker {} was lost: {}.", worker.name, why)), now);
  }
}

}  // namespace slipway::server
