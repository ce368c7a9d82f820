// The heart of the server: one thread owns the scheduler and the store, everything else posts commands to it.
//
// A turn of the thread: run the commands that wait, let the scheduler decide, write all changes in one transaction,
// and only then answer. Nothing leaves that is not on disk. Where the transaction fails, the scheduler is thrown away
// and rebuilt from the store, as after a restart, and everybody who waits for that turn is told STORE_FAILED.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/clock.h"
#include "server/command_queue.h"
#include "server/metrics.h"
#include "server/scheduling/scheduler.h"
#include "server/store/store.h"

namespace slipway::server {

struct CoordinatorOptions {
  SchedulerOptions scheduler = {};
  std::string artifact_root;                                       // absolute; outputs without a place of their own
  std::chrono::milliseconds idle_call = std::chrono::seconds(20);  // longest wait of an idle worker's call
  std::chrono::milliseconds busy_call = std::chrono::seconds(1);   // when a busy worker is to call again
  std::chrono::milliseconds ephemeral_wait = std::chrono::seconds(60);  // of validate_only and inspect
  std::chrono::milliseconds no_worker_wait = std::chrono::seconds(10);  // of those, where no worker takes them
  std::size_t queue_capacity = 8192;
  std::size_t watch_batch = 64;  // events in one answer
};

// An export as it is shown.
struct ExportView {
  ExportRecord record;
  ExportProgress progress = {};
  std::vector<AttemptRecord> attempts = {};
  std::int32_t queue_position = 0;
};

struct NewExport {
  std::string spec;  // v1::ExportSpec
  std::string checkpoint;
  std::string output;  // empty: under the artifact root, named by the id
  std::int32_t priority = 0;
  std::string request_id;
  std::string request_digest;
};

struct EphemeralTask {
  TaskKind kind = TaskKind::kValidate;
  std::string spec = {};    // v1::ExportSpec; of INSPECT what says which model it is
  std::string output = {};  // VALIDATE
  std::string checkpoint = {};
  std::optional<std::int64_t> iteration = {};
  bool inspect_tensors = false;
  bool omit_tensors = false;  // VALIDATE
};

struct WatchUpdate {
  std::vector<EventRecord> events = {};  // all that follow the cursor, up to a batch
  ExportState state = ExportState::kQueued;
  std::optional<ExportProgress> progress = {};  // where it differs from what the watcher saw
  bool final = false;                           // nothing will follow these events
};

struct Assigned {
  LeaseKey lease;
  std::string spec;
  std::string output;
  std::string plan_hash;
  std::string plan;  // v1::PlanSummary; empty until planned
  EphemeralTask ephemeral = {};
  std::chrono::milliseconds lease_duration{};
};

struct SynchronizeAnswer {
  std::vector<Assigned> assignments = {};
  std::vector<LeaseKey> revoked = {};
  std::vector<LeaseKey> acknowledged = {};
  std::chrono::milliseconds next_call{};
};

struct CoordinatorStatistics {
  std::map<ExportState, std::int64_t> exports;
  std::int64_t queued_bytes = 0;
  std::map<std::string, std::int64_t> workers;  // by "idle", "busy", "draining", "quarantined"
  std::int64_t watchers = 0;
  SchedulerCounters counters;
};

template <typename Value>
using Reply = std::function<void(absl::StatusOr<Value>)>;

// Thread-safe. Replies come exactly once each, usually on the coordinator's thread: they must not block.
class Coordinator {
 public:
  using Ticket = std::uint64_t;
  // Removes what an export that does not succeed left beside its output; may take its time, on any thread, and calls
  // `done` when it ends.
  using CleanUp = std::function<void(const ExportRecord& record, std::function<void()> done)>;

  // Loads what the store holds and starts the thread. `clock`, `metrics` outlive the coordinator.
  static absl::StatusOr<std::unique_ptr<Coordinator>> Start(CoordinatorOptions options, std::unique_ptr<Store> store,
                                                            CleanUp clean_up, const Clock& clock, Metrics& metrics);
  ~Coordinator();

  void Create(NewExport request, const Reply<ExportView>& reply);
  void Get(const std::string& id, const Reply<ExportView>& reply);
  void List(const ListQuery& query, const Reply<std::vector<ExportView>>& reply);
  void Cancel(const std::string& id, const Reply<ExportView>& reply);
  // Forgets an export that has ended.
  void Delete(const std::string& id, const Reply<ExportRecord>& reply);

  // For calls that may wait, so that whoever made them can Abandon them.
  [[nodiscard]] Ticket NewTicket() { return next_ticket_++; }
  // Waits for events after `cursor` or for progress other than `seen`.
  void Watch(Ticket ticket, const std::string& id, std::int64_t cursor, std::optional<ExportProgress> seen,
             const Reply<WatchUpdate>& reply);
  // Has a worker do it; UNAVAILABLE where none does in time.
  void RunEphemeral(Ticket ticket, EphemeralTask task, Reply<Outcome> reply);
  void Synchronize(Ticket ticket, WorkerReport report, const Reply<SynchronizeAnswer>& reply);
  // Nobody waits for that answer any more: it comes at once, as CANCELLED, if it has not come yet.
  void Abandon(Ticket ticket);

  void Statistics(const Reply<CoordinatorStatistics>& reply);

  // Answers everybody who waits with SERVER_UNREACHABLE, finishes what is posted, ends the thread. Idempotent.
  void Stop();

 private:
  struct OpenCall {  // a worker that waits for work
    Ticket ticket;
    SynchronizeAnswer answer;
    Clock::Monotonic deadline;
    Reply<SynchronizeAnswer> reply;
  };
  struct OpenWatch {
    std::string id;
    std::int64_t cursor;
    std::optional<ExportProgress> seen;
    Reply<WatchUpdate> reply;
  };
  struct OpenEphemeral {
    Ticket ticket;
    EphemeralTask task;
    Clock::Monotonic deadline;         // for the result
    Clock::Monotonic worker_deadline;  // for a worker to take it
    Reply<Outcome> reply;
  };

  Coordinator(CoordinatorOptions options, std::unique_ptr<Store> store, CleanUp clean_up, const Clock& clock,
              Metrics& metrics);

  // coordinator_commands.h
  template <typename Value>
  void Post(Reply<Value> reply, std::function<void()> run);
  template <typename Value>
  void AnswerAfterCommit(Reply<Value> reply, std::function<absl::StatusOr<Value>()> value);

  // coordinator.cc
  absl::StatusOr<ExportView> ViewOf(const std::string& id);
  absl::StatusOr<ExportView> StoredView(ExportRecord record, bool with_attempts);
  absl::Status DoCreate(NewExport& request, std::string& id);
  [[nodiscard]] absl::Status CheckOutputFree(const std::string& output) const;
  std::string MakeId();

  // coordinator_calls.cc
  absl::StatusOr<std::optional<WatchUpdate>> UpdateFor(const OpenWatch& watch);
  void DoSynchronize(Ticket ticket, const WorkerReport& report, Reply<SynchronizeAnswer> reply);
  CoordinatorStatistics DoStatistics();

  // coordinator_ephemeral.cc
  void ExpireEphemerals(Instant now);
  void FinishEphemerals();
  void AnswerEphemeral(const std::string& name, absl::StatusOr<Outcome> outcome);

  // coordinator_turn.cc
  [[nodiscard]] Instant Now() const { return {clock_.Now(), clock_.WallNow()}; }
  absl::Status Load();
  void Run();
  void Turn();
  void AssignToOpenCalls(Instant now);
  [[nodiscard]] Assigned Describe(const LeaseKey& lease) const;
  void AnswerCalls(Instant now);
  void StartCleanUps();
  absl::Status CommitChanges(std::vector<std::string>& changed);
  void Recover(const absl::Status& why);
  void TellWatchers(const std::vector<std::string>& changed);
  void MeasureEnded();
  void RefuseEverybody(const absl::Status& why);

  const CoordinatorOptions options_;
  const std::unique_ptr<Store> store_;
  const CleanUp clean_up_;
  const Clock& clock_;
  Metrics& metrics_;
  CommandQueue queue_;
  std::atomic<Ticket> next_ticket_{1};

  // Of the coordinator's thread alone.
  std::unique_ptr<Scheduler> scheduler_;
  absl::Status broken_;  // why there is no usable scheduler
  std::int64_t last_order_ = 0;
  std::mt19937_64 random_;
  std::uint64_t ephemeral_number_ = 0;
  std::map<std::string, OpenCall> open_calls_;  // by worker
  std::map<Ticket, OpenWatch> watches_;
  std::map<std::string, OpenEphemeral> ephemerals_;                     // by the made-up export name
  std::vector<std::function<void(const absl::Status&)>> after_commit_;  // answers that wait for this turn's commit
  std::vector<std::string> deleted_;                                    // this turn's, by id
  std::map<std::string, std::string> fresh_requests_;  // request ids of this turn, not in the store yet: id

  std::thread thread_;
};

}  // namespace slipway::server
