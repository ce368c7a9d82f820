#include "server/scheduling/scheduler.h"

#include <string_view>

#include <fmt/format.h>

#include "common/error.h"

namespace slipway::server {

Scheduler::QueueKey Scheduler::KeyOf(const ScheduledExport& scheduled) {
  return {-scheduled.record.priority, scheduled.record.order, scheduled.record.id};
}

void Scheduler::Restore(ExportHistory history, Instant now) {
  const std::string id = history.record.id;
  ScheduledExport& scheduled =
      exports_.insert_or_assign(id, Rebuild(std::move(history), now, options_.lease)).first->second;
  for (const Task* task : scheduled.Leased()) {
    WorkerState& worker = workers_.Get(task->lease->attempt.worker);
    worker.incarnation = task->lease->attempt.incarnation;
    worker.last_call = now.monotonic;
    worker.leases.insert({id, task->kind, task->shard, task->lease->attempt.epoch});
  }
  if (scheduled.doomed()) {
    RevokeAll(scheduled, now);
  }
  touched_.insert(id);
  Settle();
}

void Scheduler::Add(ExportRecord record, Instant now) {
  const std::string id = record.id;
  ScheduledExport& scheduled = exports_[id];
  scheduled.record = std::move(record);
  AppendEvent(scheduled, "created", "The export was accepted.", now, -1, absl::OkStatus());
  Touch(scheduled);
  Settle();
}

void Scheduler::AddEphemeral(const std::string& id, TaskKind kind, Instant now) {
  ScheduledExport& scheduled = exports_[id];
  scheduled.ephemeral = true;
  scheduled.record.id = id;
  scheduled.record.priority = kEphemeralPriority;
  scheduled.record.create_time = now.wall;
  scheduled.plan.kind = kind;
  Touch(scheduled);
  Settle();
}

void Scheduler::DropEphemeral(const std::string& id) {
  const auto found = exports_.find(id);
  if (found == exports_.end() || !found->second.ephemeral) {
    return;
  }
  if (Task& task = found->second.plan; task.lease) {
    if (WorkerState* worker = workers_.Find(task.lease->attempt.worker)) {
      const LeaseKey key{id, task.kind, task.shard, task.lease->attempt.epoch};
      worker->leases.erase(key);
      worker->redeliver.erase(key);
    }
  }
  queue_.erase(KeyOf(found->second));
  exports_.erase(found);
}

void Scheduler::Cancel(const std::string& id, Instant now) {
  const auto found = exports_.find(id);
  if (found == exports_.end() || found->second.doomed()) {
    return;
  }
  Transition(found->second, ExportEvent::kCancel, "state", "Cancellation was asked for.", now);
  RevokeAll(found->second, now);
  Settle();
}

void Scheduler::CleanedUp(const std::string& id, Instant now) {
  const auto found = exports_.find(id);
  if (found == exports_.end() || !found->second.drained) {
    return;
  }
  ScheduledExport& scheduled = found->second;
  scheduled.record.end_time = now.wall;
  if (scheduled.record.state == ExportState::kCancelling) {
    // A failure that was on its way when somebody cancelled is of no interest any more.
    scheduled.record.error = absl::OkStatus();
    Transition(scheduled, ExportEvent::kLetGo, "cancelled", "The export was cancelled; nothing is left of it.", now);
  } else {
    Transition(scheduled, ExportEvent::kFailed, "failed", std::string(scheduled.record.error.message()), now);
  }
  Settle();
}

void Scheduler::Touch(const ScheduledExport& scheduled) {
  touched_.insert(scheduled.record.id);
  if (!scheduled.ephemeral) {
    changed_exports_.insert(scheduled.record.id);
  }
}

void Scheduler::Transition(ScheduledExport& scheduled, ExportEvent event, std::string_view kind, std::string message,
                           Instant now) {
  const std::optional<ExportState> next = NextState(scheduled.record.state, event);
  if (!next || scheduled.ephemeral) {
    return;
  }
  scheduled.record.state = *next;
  AppendEvent(scheduled, kind, std::move(message), now, -1,
              *next == ExportState::kFailed ? scheduled.record.error : absl::OkStatus());
  Touch(scheduled);
}

void Scheduler::AppendEvent(ScheduledExport& scheduled, std::string_view kind, std::string message, Instant now,
                            std::int32_t shard, const absl::Status& error) {
  if (scheduled.ephemeral) {
    return;
  }
  changes_.events.push_back({scheduled.record.id,
                             {.sequence = ++scheduled.record.last_sequence,
                              .time = now.wall,
                              .kind = std::string(kind),
                              .state = scheduled.record.state,
                              .message = std::move(message),
                              .shard = shard,
                              .error = error}});
  Touch(scheduled);
}

void Scheduler::Doom(ScheduledExport& scheduled, const absl::Status& error, Instant now) {
  if (!scheduled.doomed()) {
    scheduled.record.error = error;
    RevokeAll(scheduled, now);
    Touch(scheduled);
  }
}

void Scheduler::RevokeAll(ScheduledExport& scheduled, Instant now) {
  for (Task* task : scheduled.Leased()) {
    if (!task->lease->revoked_at) {
      task->lease->revoked_at = now.monotonic;
    }
  }
}

void Scheduler::Settle() {
  for (const std::string& id : std::exchange(touched_, {})) {
    const auto found = exports_.find(id);
    if (found == exports_.end()) {
      continue;
    }
    ScheduledExport& scheduled = found->second;
    if (scheduled.Waiting().empty()) {
      queue_.erase(KeyOf(scheduled));
    } else {
      queue_.insert(KeyOf(scheduled));
    }
    if (IsFinal(scheduled.record.state)) {
      FlushShards();
      changed_exports_.erase(id);
      changes_.exports.push_back(scheduled.record);
      ended_.push_back(std::move(scheduled.record));
      exports_.erase(found);
    } else if (scheduled.doomed() && !scheduled.ephemeral && !scheduled.drained && scheduled.Leased().empty()) {
      scheduled.drained = true;
      drained_.push_back(id);
    }
  }
}

void Scheduler::FlushShards() {
  for (const auto& [id, number] : std::exchange(changed_shards_, {})) {
    if (const auto found = exports_.find(id); found != exports_.end()) {
      changes_.shards.push_back({id, found->second.shards[static_cast<std::size_t>(number)]});
    }
  }
}

Changes Scheduler::TakeChanges() {
  for (const std::string& id : std::exchange(changed_exports_, {})) {
    if (const auto found = exports_.find(id); found != exports_.end()) {
      changes_.exports.push_back(found->second.record);
    }
  }
  FlushShards();
  return std::exchange(changes_, {});
}

const ScheduledExport* Scheduler::Find(const std::string& id) const {
  const auto found = exports_.find(id);
  return found == exports_.end() ? nullptr : &found->second;
}

std::int32_t Scheduler::QueuePosition(const std::string& id) const {
  std::int32_t position = 0;
  for (const auto& [priority, order, other] : queue_) {
    if (other == id) {
      return position;
    }
    const ScheduledExport* scheduled = Find(other);
    position += scheduled != nullptr && !scheduled->ephemeral && scheduled->record.state == ExportState::kQueued;
  }
  return 0;
}

}  // namespace slipway::server
