#include "server/scheduling/scheduled_export.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>

#include "common/error.h"

namespace slipway::server {
namespace {

template <typename Predicate>
void Collect(ScheduledExport& scheduled, std::vector<Task*>& into, Predicate wanted) {
  const auto consider = [&](Task& task) {
    if (wanted(task)) {
      into.push_back(&task);
    }
  };
  consider(scheduled.plan);
  std::ranges::for_each(scheduled.shard_tasks, consider);
  consider(scheduled.publish);
}

// The stages are one after the other: a task can start only in the state that its stage belongs to.
bool StageReached(const ScheduledExport& scheduled, TaskKind kind) {
  switch (scheduled.record.state) {
    case ExportState::kQueued:
    case ExportState::kPlanning:
      return kind == TaskKind::kPlan || kind == TaskKind::kValidate || kind == TaskKind::kInspect;
    case ExportState::kRunning:
      return kind == TaskKind::kShard;
    case ExportState::kPublishing:
      return kind == TaskKind::kPublish;
    default:
      return false;
  }
}

}  // namespace

Task* ScheduledExport::Find(TaskKind kind, std::int32_t shard) {
  if (kind == TaskKind::kShard) {
    const auto index = static_cast<std::size_t>(shard);
    return shard >= 0 && index < shard_tasks.size() ? &shard_tasks[index] : nullptr;
  }
  return kind == publish.kind ? &publish : kind == plan.kind ? &plan : nullptr;
}

const Task* ScheduledExport::Find(TaskKind kind, std::int32_t shard) const {
  return const_cast<ScheduledExport*>(this)->Find(kind, shard);
}

std::vector<Task*> ScheduledExport::Waiting() {
  std::vector<Task*> waiting;
  if (!doomed()) {
    Collect(*this, waiting,
            [this](const Task& task) { return !task.done && !task.lease && StageReached(*this, task.kind); });
  }
  return waiting;
}

std::vector<Task*> ScheduledExport::WaitingInOrder() {
  std::vector<Task*> waiting = Waiting();
  // A shard that is twice as large as others is not left for the end, when one worker writes and the others wait.
  // Neighbours of like sizes stay neighbours: they read the same parts of the checkpoint.
  std::ranges::stable_sort(waiting, std::greater(), [this](const Task* task) {
    return task->kind == TaskKind::kShard
               ? std::bit_width(static_cast<std::uint64_t>(shards[static_cast<std::size_t>(task->shard)].bytes))
               : 0;
  });
  return waiting;
}

std::vector<Task*> ScheduledExport::Leased() {
  std::vector<Task*> leased;
  Collect(*this, leased, [](const Task& task) { return task.lease.has_value(); });
  return leased;
}

std::vector<AttemptRecord> ScheduledExport::Attempts() const {
  std::vector<AttemptRecord> attempts(ended_attempts.begin(), ended_attempts.end());
  const auto add_live = [&attempts](const Task& task) {
    if (task.lease) {
      attempts.push_back(task.lease->attempt);
    }
  };
  add_live(plan);
  std::ranges::for_each(shard_tasks, add_live);
  add_live(publish);
  std::ranges::sort(attempts, {}, &AttemptRecord::epoch);
  if (attempts.size() > kMaximumShownAttempts) {
    attempts.erase(attempts.begin(), attempts.end() - static_cast<std::ptrdiff_t>(kMaximumShownAttempts));
  }
  return attempts;
}

ExportProgress ScheduledExport::Progress() const {
  ExportProgress progress;
  progress.shards_total = static_cast<std::int32_t>(shards.size());
  for (std::size_t i = 0; i < shards.size(); ++i) {
    progress.bytes_total += shards[i].bytes;
    if (shards[i].done) {
      progress.bytes_done += shards[i].bytes;
      ++progress.shards_done;
    } else if (shard_tasks[i].lease) {
      progress.bytes_done += std::clamp<std::int64_t>(shard_tasks[i].lease->bytes_done, 0, shards[i].bytes);
    }
  }
  return progress;
}

void CountFailure(Task& task, const AttemptRecord& attempt) {
  ++task.tries;
  const Reason reason = ReasonOf(attempt.error);
  if (reason == Reason::kWorkerLost) {
    ++task.losses;
  } else if (reason != Reason::kLeaseLost && reason != Reason::kCancelled) {
    ++task.faults;
  }
}

ScheduledExport Rebuild(ExportHistory history, Instant now, Clock::Monotonic::duration lease) {
  ScheduledExport scheduled{.record = std::move(history.record), .shards = std::move(history.shards)};
  scheduled.plan.done = !scheduled.record.plan_hash.empty();
  for (const ShardRecord& shard : scheduled.shards) {
    scheduled.shard_tasks.push_back({.kind = TaskKind::kShard, .shard = shard.number, .done = shard.done});
  }
  for (AttemptRecord& attempt : history.attempts) {
    Task* task = scheduled.Find(attempt.kind, attempt.shard);
    if (task == nullptr) {
      continue;
    }
    if (!attempt.end_time) {
      task->lease = LiveLease{.attempt = std::move(attempt), .expires = now.monotonic + lease, .moved = now.monotonic};
      continue;
    }
    if (!attempt.error.ok()) {
      CountFailure(*task, attempt);
      task->avoid_worker = attempt.worker;
    }
    scheduled.ended_attempts.push_back(std::move(attempt));
    if (scheduled.ended_attempts.size() > kMaximumShownAttempts) {
      scheduled.ended_attempts.pop_front();
    }
  }
  return scheduled;
}

}  // namespace slipway::server
