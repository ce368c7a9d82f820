// An export as the scheduler holds it while it has not ended: its records, its tasks and their leases.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "server/scheduling/records.h"

namespace slipway::server {

// One attempt in progress.
struct LiveLease {
  AttemptRecord attempt;
  Clock::Monotonic expires;     // without another call of the worker
  Clock::Monotonic moved;       // when the heartbeat last changed
  std::int64_t heartbeat = -1;  // -1: none was reported yet
  std::int64_t bytes_done = 0;
  std::optional<Clock::Monotonic> revoked_at = {};
};

struct Task {
  TaskKind kind = TaskKind::kPlan;
  std::int32_t shard = 0;
  bool done = false;
  std::optional<LiveLease> lease = {};
  int tries = 0;                     // attempts that ended without success, whatever the reason
  int faults = 0;                    // of those: the worker reported a fault of its own, or was stuck
  int losses = 0;                    // of those: the worker vanished
  std::string avoid_worker = {};     // the worker of the last failed attempt
  Clock::Monotonic not_before = {};  // when it may be tried again
};

struct ExportProgress {
  std::int64_t bytes_done = 0;
  std::int64_t bytes_total = 0;
  std::int32_t shards_done = 0;
  std::int32_t shards_total = 0;
};

// Most ended attempts that an export keeps in memory and shows.
inline constexpr std::size_t kMaximumShownAttempts = 100;

struct ScheduledExport {
  ExportRecord record;
  // A validate_only or inspect task: one task (in `plan`), never stored.
  bool ephemeral = false;
  Task plan = {};
  std::vector<Task> shard_tasks = {};
  Task publish = {.kind = TaskKind::kPublish};
  std::vector<ShardRecord> shards = {};
  std::deque<AttemptRecord> ended_attempts = {};  // oldest first, at most kMaximumShownAttempts
  bool drained = false;                           // doomed, and said so to whoever cleans up

  // Whether the end is decided and only waits for workers to let go and for the clean-up.
  [[nodiscard]] bool doomed() const { return record.state == ExportState::kCancelling || !record.error.ok(); }
  // The task, or nullptr where the export has none such.
  [[nodiscard]] Task* Find(TaskKind kind, std::int32_t shard);
  [[nodiscard]] const Task* Find(TaskKind kind, std::int32_t shard) const;
  // Tasks that could be leased now if a worker were free: none of a doomed export; PUBLISH only after all shards.
  [[nodiscard]] std::vector<Task*> Waiting();
  // The same in the order in which they are leased: much larger shards first.
  [[nodiscard]] std::vector<Task*> WaitingInOrder();
  // Tasks with a live lease.
  [[nodiscard]] std::vector<Task*> Leased();
  [[nodiscard]] std::vector<AttemptRecord> Attempts() const;
  [[nodiscard]] ExportProgress Progress() const;
};

// From the store: leases that were alive stay so for `lease` more, as their workers may still be at work.
ScheduledExport Rebuild(ExportHistory history, Instant now, Clock::Monotonic::duration lease);

// Counts an attempt that ended without success on its task.
void CountFailure(Task& task, const AttemptRecord& attempt);

}  // namespace slipway::server
