// Decides which worker does what and when, and how every export ends. Pure: no I/O, no threads, no clock of its own;
// the same calls give the same decisions. Whoever calls it writes TakeChanges() to the store before it acts on an
// answer: nothing may leave the process that is not durable.
//
// - Order: higher priority first, then the older. Shards of one export may go to several workers.
// - Every lease has an epoch that grows with each lease of its export; results under any other epoch are discarded.
// - A lease ends when its worker says so, does not call for SchedulerOptions::lease, restarts, or stands still for
//   SchedulerOptions::stuck.
// - An attempt that fails through the export's fault ends the export. One that fails through the worker's is tried
//   again, elsewhere if there is an elsewhere, up to the limits. A task that lost a worker runs alone on its worker
//   from then on, so that an export that kills workers takes no other with it.
// - An export whose end is decided is first drained of leases, then cleaned up by the caller (TakeDrained, CleanedUp),
//   and only then final: a final export has left nothing behind.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "server/scheduling/protocol.h"
#include "server/scheduling/records.h"
#include "server/scheduling/scheduled_export.h"
#include "server/scheduling/worker_table.h"

namespace slipway::server {

struct SchedulerOptions {
  std::chrono::milliseconds lease = std::chrono::seconds(15);   // without a call
  std::chrono::milliseconds stuck = std::chrono::seconds(120);  // calling, but nothing moves
  int maximum_faults = 3;   // of a task, by workers that reported a fault of their own
  int maximum_losses = 5;   // of a task, by workers that vanished
  int maximum_tries = 100;  // of a task, whatever the reason
  std::chrono::milliseconds retry_delay =
      std::chrono::milliseconds(250);                              // doubles with each try of a task, up to 16 times
  std::chrono::milliseconds elsewhere = std::chrono::seconds(10);  // how long a retry waits for another worker
  std::chrono::milliseconds alone = std::chrono::seconds(30);      // how long a suspect waits for a worker to itself
  std::chrono::milliseconds let_go = std::chrono::seconds(60);     // for which a calling worker may ignore a revocation
  std::chrono::milliseconds forget_worker = std::chrono::seconds(60);
  QuarantinePolicy quarantine = {};
};

// Above every priority that a client can ask for.
inline constexpr int kEphemeralPriority = 1000;

// Counters since the start, for metrics.
struct SchedulerCounters {
  std::int64_t lease_expirations = 0;
  std::int64_t fenced_reports = 0;                           // finished work that came under a dead lease
  std::map<std::string, std::int64_t> failed_attempts = {};  // by reason
};

// Not thread-safe.
class Scheduler {
 public:
  explicit Scheduler(SchedulerOptions options) : options_(options), workers_(options.quarantine) {}

  // --- Exports ---
  // An export from the store that has not ended.
  void Restore(ExportHistory history, Instant now);
  // A new export; its state is QUEUED.
  void Add(ExportRecord record, Instant now);
  // A task without an export: VALIDATE or INSPECT. Served before all others; ends in TakeEphemeralResults.
  void AddEphemeral(const std::string& id, TaskKind kind, Instant now);
  void DropEphemeral(const std::string& id);
  // Starts the cancellation; nothing where the export is already ending.
  void Cancel(const std::string& id, Instant now);
  // The caller removed the partial output of a drained export: it becomes final and leaves the scheduler.
  void CleanedUp(const std::string& id, Instant now);

  // --- Workers ---
  ReportAnswer Report(const WorkerReport& report, Instant now);
  // One more lease for the worker, or nullopt: call until nullopt, in turn for several workers.
  std::optional<LeaseKey> Assign(const std::string& name, Instant now);
  // Ends leases that expired and attempts that stand still.
  void Expire(Instant now);
  // Whether some task could be leased, now or when its time comes.
  [[nodiscard]] bool HasWaiting() const { return !queue_.empty(); }

  // --- What came of it ---
  [[nodiscard]] Changes TakeChanges();
  [[nodiscard]] std::vector<std::string> TakeDrained() { return std::exchange(drained_, {}); }
  // Exports that became final since the last call; the scheduler does not hold them any more.
  [[nodiscard]] std::vector<ExportRecord> TakeEnded() { return std::exchange(ended_, {}); }
  [[nodiscard]] std::vector<std::pair<std::string, Outcome>> TakeEphemeralResults() {
    return std::exchange(ephemeral_results_, {});
  }
  // Ids whose progress changed without a change to store.
  [[nodiscard]] std::set<std::string> TakeMoved() { return std::exchange(moved_, {}); }

  [[nodiscard]] const ScheduledExport* Find(const std::string& id) const;
  // Exports that will be started before this one.
  [[nodiscard]] std::int32_t QueuePosition(const std::string& id) const;
  [[nodiscard]] const std::map<std::string, ScheduledExport>& exports() const { return exports_; }
  [[nodiscard]] const WorkerTable& workers() const { return workers_; }
  [[nodiscard]] const SchedulerCounters& counters() const { return counters_; }

 private:
  using QueueKey = std::tuple<int, std::int64_t, std::string>;  // -priority, order, id

  // scheduler.cc
  static QueueKey KeyOf(const ScheduledExport& scheduled);
  void Touch(const ScheduledExport& scheduled);
  void Transition(ScheduledExport& scheduled, ExportEvent event, std::string_view kind, std::string message,
                  Instant now);
  void AppendEvent(ScheduledExport& scheduled, std::string_view kind, std::string message, Instant now,
                   std::int32_t shard, const absl::Status& error);
  void Doom(ScheduledExport& scheduled, const absl::Status& error, Instant now);
  static void RevokeAll(ScheduledExport& scheduled, Instant now);
  // After a public call: brings queue, drained and ended exports in line with what the call touched. References to
  // exports are valid until then.
  void Settle();
  void FlushShards();

  // scheduler_report.cc
  void ReportTask(const TaskReport& report, WorkerState& worker, Instant now, ReportAnswer& answer);
  void Finish(ScheduledExport& scheduled, Task& task, const Outcome& outcome, Instant now);
  absl::Status Accept(ScheduledExport& scheduled, Task& task, const Outcome& outcome, Instant now);
  void FinishEphemeral(ScheduledExport& scheduled, Task& task, const Outcome& outcome, Instant now);
  absl::Status AcceptPlan(ScheduledExport& scheduled, const Planned& planned, Instant now);
  absl::Status AcceptShard(ScheduledExport& scheduled, Task& task, const ShardWritten& written, Instant now);
  absl::Status AcceptPublication(ScheduledExport& scheduled, const Published& published, Instant now);
  void NoteMovement(ScheduledExport& scheduled, LiveLease& lease, const TaskReport& report, Instant now);
  void ConfirmLeases(WorkerState& worker, const std::set<LeaseKey>& listed, Instant now);
  void LoseLeases(WorkerState& worker, const std::string& why, Instant now);

  // scheduler_attempts.cc
  LeaseKey Grant(ScheduledExport& scheduled, Task& task, WorkerState& worker, Instant now);
  void CloseAttempt(ScheduledExport& scheduled, Task& task, const absl::Status& error, Instant now);
  void FailAttempt(ScheduledExport& scheduled, Task& task, const absl::Status& error, Instant now);
  [[nodiscard]] bool Suits(const WorkerState& worker, const ScheduledExport& scheduled, const Task& task,
                           Instant now) const;
  [[nodiscard]] bool HoldsSuspectOfAnother(const WorkerState& worker, const std::string& id) const;
  void ExpireLease(const LeaseKey& key, Instant now);

  SchedulerOptions options_;
  WorkerTable workers_;
  SchedulerCounters counters_;
  std::map<std::string, ScheduledExport> exports_;
  std::set<QueueKey> queue_;  // exports with a waiting task

  std::set<std::string> touched_;  // since the last Settle
  std::set<std::string> changed_exports_;
  std::set<std::pair<std::string, std::int32_t>> changed_shards_;
  Changes changes_;  // attempts and events, and records of exports that left
  std::vector<std::string> drained_;
  std::vector<ExportRecord> ended_;
  std::vector<std::pair<std::string, Outcome>> ephemeral_results_;
  std::set<std::string> moved_;
};

}  // namespace slipway::server
