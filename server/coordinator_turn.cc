// The coordinator's thread: turns, commits, recovery.
#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "common/count_of.h"
#include "common/error.h"
#include "server/coordinator.h"

namespace slipway::server {
namespace {

// How long the thread sleeps where nobody calls: bounds how late expiry and retries are noticed.
constexpr std::chrono::milliseconds kTick{100};

template <typename Duration>
double Seconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

Coordinator::Coordinator(CoordinatorOptions options, std::unique_ptr<Store> store, CleanUp clean_up, const Clock& clock,
                         Metrics& metrics)
    : options_(std::move(options)),
      store_(std::move(store)),
      clean_up_(std::move(clean_up)),
      clock_(clock),
      metrics_(metrics),
      queue_(options_.queue_capacity),
      random_(std::random_device{}()) {}

absl::StatusOr<std::unique_ptr<Coordinator>> Coordinator::Start(CoordinatorOptions options,
                                                                std::unique_ptr<Store> store, CleanUp clean_up,
                                                                const Clock& clock, Metrics& metrics) {
  std::unique_ptr<Coordinator> coordinator(
      new Coordinator(std::move(options), std::move(store), std::move(clean_up), clock, metrics));
  SLIPWAY_RETURN_IF_ERROR(coordinator->Load());
  coordinator->thread_ = std::thread([raw = coordinator.get()] { raw->Run(); });
  return coordinator;
}

Coordinator::~Coordinator() { Stop(); }

void Coordinator::Stop() {
  queue_.Close();
  if (thread_.joinable()) {
    thread_.join();
  }
}

absl::Status Coordinator::Load() {
  auto scheduler = std::make_unique<Scheduler>(options_.scheduler);
  SLIPWAY_ASSIGN_OR_RETURN(last_order_, store_->LastOrder());
  SLIPWAY_ASSIGN_OR_RETURN(std::vector<ExportHistory> exports, store_->LoadUnfinished());
  for (ExportHistory& history : exports) {
    scheduler->Restore(std::move(history), Now());
  }
  if (!exports.empty()) {
    spdlog::info("{} in the store", CountOf(static_cast<std::int64_t>(exports.size()), "unfinished export"));
  }
  scheduler_ = std::move(scheduler);
  StartCleanUps();
  return absl::OkStatus();
}

void Coordinator::Run() {
  while (!queue_.closed()) {
    for (const Command& command : queue_.Take(kTick)) {
      command.run();
    }
    Turn();
  }
  RefuseEverybody(Error(Reason::kServerUnreachable, "The server is shutting down; call again."));
}

void Coordinator::Turn() {
  if (!broken_.ok()) {
    Recover(broken_);
    return;
  }
  const Instant now = Now();
  scheduler_->Expire(now);
  ExpireEphemerals(now);
  AssignToOpenCalls(now);
  AnswerCalls(now);
  StartCleanUps();

  std::vector<std::string> changed;
  const absl::Status committed = CommitChanges(changed);
  fresh_requests_.clear();
  if (!committed.ok()) {
    Recover(committed);
    return;
  }
  for (auto& answer : std::exchange(after_commit_, {})) {
    answer(absl::OkStatus());
  }
  FinishEphemerals();
  MeasureEnded();
  TellWatchers(changed);
}

void Coordinator::AssignToOpenCalls(Instant now) {
  // One lease a worker and round, so that the shards of one export spread.
  bool assigned = true;
  while (assigned) {
    assigned = false;
    for (auto& [worker, call] : open_calls_) {
      if (const std::optional<LeaseKey> lease = scheduler_->Assign(worker, now)) {
        call.answer.assignments.push_back(Describe(*lease));
        assigned = true;
      }
    }
  }
}

Assigned Coordinator::Describe(const LeaseKey& lease) const {
  Assigned assigned{.lease = lease, .spec = {}, .output = {}, .plan_hash = {}, .plan = {}};
  assigned.lease_duration = options_.scheduler.lease;
  if (const auto ephemeral = ephemerals_.find(lease.export_id); ephemeral != ephemerals_.end()) {
    assigned.ephemeral = ephemeral->second.task;
    assigned.spec = ephemeral->second.task.spec;
    assigned.output = ephemeral->second.task.output;
    return assigned;
  }
  const ExportRecord& record = scheduler_->Find(lease.export_id)->record;
  assigned.spec = record.spec;
  assigned.output = record.output;
  assigned.plan_hash = record.plan_hash;
  assigned.plan = record.plan;
  if (record.last_epoch == 1) {
    metrics_.export_queue_seconds.Observe(Seconds(clock_.WallNow() - record.create_time));
  }
  return assigned;
}

void Coordinator::AnswerCalls(Instant now) {
  for (auto entry = open_calls_.begin(); entry != open_calls_.end();) {
    OpenCall& call = entry->second;
    if (call.answer.assignments.empty() && now.monotonic < call.deadline) {
      ++entry;
      continue;
    }
    const WorkerState* worker = scheduler_->workers().Find(entry->first);
    const bool busy = worker != nullptr && !worker->leases.empty();
    call.answer.next_call = busy ? options_.busy_call : std::chrono::milliseconds(0);
    after_commit_.emplace_back([answered = std::move(call)](const absl::Status& committed) {
      answered.reply(committed.ok() ? absl::StatusOr<SynchronizeAnswer>(answered.answer) : committed);
    });
    entry = open_calls_.erase(entry);
  }
}

void Coordinator::StartCleanUps() {
  for (const std::string& id : scheduler_->TakeDrained()) {
    clean_up_(scheduler_->Find(id)->record,
              [this, id] { queue_.PostAlways([this, id] { scheduler_->CleanedUp(id, Now()); }); });
  }
}

absl::Status Coordinator::CommitChanges(std::vector<std::string>& changed) {
  Changes changes = scheduler_->TakeChanges();
  changes.deleted = std::exchange(deleted_, {});
  for (const ExportRecord& record : changes.exports) {
    changed.push_back(record.id);
  }
  for (const std::string& id : scheduler_->TakeMoved()) {
    changed.push_back(id);
  }
  changed.insert(changed.end(), changes.deleted.begin(), changes.deleted.end());
  if (changes.empty()) {
    return absl::OkStatus();
  }
  const auto start = std::chrono::steady_clock::now();
  absl::Status status = store_->Commit(changes);
  metrics_.commit_seconds.Observe(Seconds(std::chrono::steady_clock::now() - start));
  return status;
}

// What was decided in memory and is not on disk did not happen: start again from what is on disk.
void Coordinator::Recover(const absl::Status& why) {
  if (broken_.ok()) {
    metrics_.commit_failures.Increment();
    spdlog::error("{}", slipway::Describe(why));
  }
  RefuseEverybody(why);
  deleted_.clear();
  broken_ = Load();
  if (!broken_.ok()) {
    spdlog::error("the store cannot be read again: {}", slipway::Describe(broken_));
  }
}

void Coordinator::RefuseEverybody(const absl::Status& why) {
  for (auto& answer : std::exchange(after_commit_, {})) {
    answer(why);
  }
  for (auto& [worker, call] : std::exchange(open_calls_, {})) {
    call.reply(why);
  }
  for (auto& [name, ephemeral] : std::exchange(ephemerals_, {})) {
    ephemeral.reply(why);
  }
  for (auto& [ticket, watch] : std::exchange(watches_, {})) {
    watch.reply(why);
  }
}

void Coordinator::MeasureEnded() {
  for (const ExportRecord& record : scheduler_->TakeEnded()) {
    const std::string result(NameOf(record.state));
    metrics_.exports_finished.Add({{"result", result}}).Increment();
    metrics_.export_run_seconds.Observe(Seconds(record.end_time.value_or(record.create_time) - record.create_time));
    spdlog::info("exports/{} {}{}{}", record.id, result, record.error.ok() ? "" : ": ",
                 record.error.ok() ? "" : slipway::Describe(record.error));
  }
}

void Coordinator::TellWatchers(const std::vector<std::string>& changed) {
  if (changed.empty()) {
    return;
  }
  const std::set<std::string> ids(changed.begin(), changed.end());
  std::erase_if(watches_, [&](const auto& entry) {
    const OpenWatch& watch = entry.second;
    if (!ids.contains(watch.id)) {
      return false;
    }
    absl::StatusOr<std::optional<WatchUpdate>> update = UpdateFor(watch);
    if (update.ok() && !*update) {
      return false;
    }
    watch.reply(update.ok() ? absl::StatusOr<WatchUpdate>(**std::move(update)) : update.status());
    return true;
  });
}

}  // namespace slipway::server
