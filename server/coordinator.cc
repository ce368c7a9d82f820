#include "server/coordinator.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"

namespace slipway::server {
namespace {

absl::Status NoSuchExport(const std::string& id) {
  return Error(Reason::kNotFound, fmt::format("There is no export exports/{}.", id));
}

bool Same(const ExportProgress& a, const ExportProgress& b) {
  return a.bytes_done == b.bytes_done && a.bytes_total == b.bytes_total && a.shards_done == b.shards_done &&
         a.shards_total == b.shards_total;
}

}  // namespace

template <typename Value>
void Coordinator::Post(Reply<Value> reply, std::function<void()> run) {
  queue_.Post({[this, reply, run = std::move(run)] {
                 if (broken_.ok()) {
                   run();
                 } else {
                   reply(broken_);
                 }
               },
               [reply](const absl::Status& why) { reply(why); }});
}

template <typename Value>
void Coordinator::AnswerAfterCommit(Reply<Value> reply, std::function<absl::StatusOr<Value>()> value) {
  after_commit_.push_back([reply = std::move(reply), value = std::move(value)](const absl::Status& committed) {
    reply(committed.ok() ? value() : committed);
  });
}

void Coordinator::Create(NewExport request, Reply<ExportView> reply) {
  Post<ExportView>(reply, [this, request = std::move(request), reply]() mutable {
    std::string id;
    if (absl::Status status = DoCreate(request, id); !status.ok()) {
      reply(std::move(status));
    } else {
      AnswerAfterCommit<ExportView>(reply, [this, id] { return ViewOf(id); });
    }
  });
}

absl::Status Coordinator::DoCreate(NewExport& request, std::string& id) {
  if (!request.request_id.empty()) {
    const auto fresh = fresh_requests_.find(request.request_id);
    std::optional<ExportRecord> earlier;
    if (fresh != fresh_requests_.end()) {
      earlier = scheduler_->Find(fresh->second)->record;
    } else {
      SLIPWAY_ASSIGN_OR_RETURN(earlier, store_->FindRequest(request.request_id));
    }
    if (earlier && earlier->request_digest != request.request_digest) {
      return Error(Reason::kRequestIdReused,
                   fmt::format("request_id '{}' came before with another request, for exports/{}.", request.request_id,
                               earlier->id));
    }
    if (earlier) {
      id = earlier->id;
      return absl::OkStatus();
    }
  }
  SLIPWAY_RETURN_IF_ERROR(CheckOutputFree(request.output));
  id = MakeId();
  if (!request.request_id.empty()) {
    fresh_requests_[request.request_id] = id;
  }
  const Instant now = Now();
  scheduler_->Add({.id = id,
                   .order = ++last_order_,
                   .priority = request.priority,
                   .create_time = now.wall,
                   .spec = std::move(request.spec),
                   .checkpoint = std::move(request.checkpoint),
                   .output = request.output.empty() ? options_.artifact_root + "/" + id : std::move(request.output),
                   .request_id = std::move(request.request_id),
                   .request_digest = std::move(request.request_digest)},
                  now);
  metrics_.exports_created.Increment();
  return absl::OkStatus();
}

// Two exports into one directory would share a staging directory and remove each other's work.
absl::Status Coordinator::CheckOutputFree(const std::string& output) const {
  for (const auto& [id, scheduled] : scheduler_->exports()) {
    if (!output.empty() && scheduled.record.output == output) {
      return Error(Reason::kOutputExists, fmt::format("exports/{} is still writing there.", id), Where{.file = output});
    }
  }
  return absl::OkStatus();
}

// Sorts by time: 44 bits of milliseconds, 20 random bits.
std::string Coordinator::MakeId() {
  const auto milliseconds = static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(clock_.WallNow().time_since_epoch()).count());
  std::string id;
  bool taken = true;
  while (taken) {
    id = fmt::format("{:016x}", (milliseconds << 20U) | (random_() & 0xFFFFFU));
    const auto stored = store_->FindExport(id);
    taken = scheduler_->Find(id) != nullptr || (stored.ok() && stored->has_value());
  }
  return id;
}

void Coordinator::Get(const std::string& id, Reply<ExportView> reply) {
  Post<ExportView>(reply,
                   [this, id, reply] { AnswerAfterCommit<ExportView>(reply, [this, id] { return ViewOf(id); }); });
}

absl::StatusOr<ExportView> Coordinator::ViewOf(const std::string& id) {
  if (const ScheduledExport* scheduled = scheduler_->Find(id); scheduled != nullptr && !scheduled->ephemeral) {
    return ExportView{scheduled->record, scheduled->Progress(), scheduled->Attempts(), scheduler_->QueuePosition(id)};
  }
  SLIPWAY_ASSIGN_OR_RETURN(std::optional<ExportRecord> record, store_->FindExport(id));
  if (!record) {
    return NoSuchExport(id);
  }
  return StoredView(*std::move(record), /*with_attempts=*/true);
}

absl::StatusOr<ExportView> Coordinator::StoredView(ExportRecord record, bool with_attempts) {
  ExportView view{.record = std::move(record)};
  SLIPWAY_ASSIGN_OR_RETURN(const std::vector<ShardRecord> shards, store_->Shards(view.record.id));
  for (const ShardRecord& shard : shards) {
    view.progress.bytes_total += shard.bytes;
    view.progress.bytes_done += shard.done ? shard.bytes : 0;
    ++view.progress.shards_total;
    view.progress.shards_done += shard.done ? 1 : 0;
  }
  if (with_attempts) {
    SLIPWAY_ASSIGN_OR_RETURN(view.attempts, store_->LastAttempts(view.record.id, kMaximumShownAttempts));
  }
  return view;
}

void Coordinator::List(const ListQuery& query, Reply<std::vector<ExportView>> reply) {
  using Views = std::vector<ExportView>;
  Post<Views>(reply, [this, query, reply] {
    AnswerAfterCommit<Views>(reply, [this, query]() -> absl::StatusOr<Views> {
      SLIPWAY_ASSIGN_OR_RETURN(std::vector<ExportRecord> records, store_->List(query));
      Views views;
      for (ExportRecord& record : records) {
        if (const ScheduledExport* scheduled = scheduler_->Find(record.id)) {
          views.push_back({scheduled->record, scheduled->Progress(), {}, scheduler_->QueuePosition(record.id)});
        } else {
          SLIPWAY_ASSIGN_OR_RETURN(ExportView view, StoredView(std::move(record), /*with_attempts=*/false));
          views.push_back(std::move(view));
        }
      }
      return views;
    });
  });
}

void Coordinator::Cancel(const std::string& id, Reply<ExportView> reply) {
  Post<ExportView>(reply, [this, id, reply] {
    if (const ScheduledExport* scheduled = scheduler_->Find(id); scheduled != nullptr && !scheduled->ephemeral) {
      scheduler_->Cancel(id, Now());
    }
    AnswerAfterCommit<ExportView>(reply, [this, id] { return ViewOf(id); });
  });
}

void Coordinator::Delete(const std::string& id, Reply<ExportRecord> reply) {
  Post<ExportRecord>(reply, [this, id, reply] {
    if (const ScheduledExport* scheduled = scheduler_->Find(id)) {
      reply(Error(Reason::kExportNotFinished,
                  fmt::format("exports/{} is {}; cancel it first.", id, NameOf(scheduled->record.state))));
      return;
    }
    absl::StatusOr<std::optional<ExportRecord>> record = store_->FindExport(id);
    if (!record.ok()) {
      reply(record.status());
    } else if (!*record) {
      reply(NoSuchExport(id));
    } else {
      deleted_.push_back(id);
      AnswerAfterCommit<ExportRecord>(reply,
                                      [kept = **std::move(record)]() -> absl::StatusOr<ExportRecord> { return kept; });
    }
  });
}

void Coordinator::Watch(Ticket ticket, const std::string& id, std::int64_t cursor, std::optional<ExportProgress> seen,
                        Reply<WatchUpdate> reply) {
  Post<WatchUpdate>(reply, [this, ticket, watch = OpenWatch{id, cursor, seen, reply}] {
    absl::StatusOr<std::optional<WatchUpdate>> update = UpdateFor(watch);
    if (!update.ok()) {
      watch.reply(update.status());
    } else if (*update) {
      watch.reply(**std::move(update));
    } else {
      watches_.emplace(ticket, watch);
    }
  });
}

absl::StatusOr<std::optional<WatchUpdate>> Coordinator::UpdateFor(const OpenWatch& watch) {
  SLIPWAY_ASSIGN_OR_RETURN(std::vector<EventRecord> events,
                           store_->Events(watch.id, watch.cursor, options_.watch_batch));
  WatchUpdate update{.events = std::move(events)};
  const std::int64_t reached = update.events.empty() ? watch.cursor : update.events.back().sequence;
  if (const ScheduledExport* scheduled = scheduler_->Find(watch.id)) {
    update.state = scheduled->record.state;
    const ExportProgress progress = scheduled->Progress();
    if (!watch.seen || !Same(progress, *watch.seen)) {
      update.progress = progress;
    }
  } else {
    SLIPWAY_ASSIGN_OR_RETURN(const std::optional<ExportRecord> record, store_->FindExport(watch.id));
    if (!record) {
      return NoSuchExport(watch.id);
    }
    update.state = record->state;
    update.final = IsFinal(record->state) && reached >= record->last_sequence;
  }
  if (update.events.empty() && !update.progress && !update.final) {
    return std::nullopt;
  }
  return update;
}

void Coordinator::RunEphemeral(Ticket ticket, EphemeralTask task, Reply<Outcome> reply) {
  Post<Outcome>(reply, [this, ticket, task = std::move(task), reply]() mutable {
    const Instant now = Now();
    const std::string name = fmt::format("{}-{:x}-{}", task.kind == TaskKind::kValidate ? "validate" : "inspect",
                                         random_(), ++ephemeral_number_);
    const TaskKind kind = task.kind;
    ephemerals_.emplace(name, OpenEphemeral{ticket, std::move(task), now.monotonic + options_.ephemeral_wait,
                                            now.monotonic + options_.no_worker_wait, std::move(reply)});
    scheduler_->AddEphemeral(name, kind, now);
  });
}

void Coordinator::Synchronize(Ticket ticket, WorkerReport report, Reply<SynchronizeAnswer> reply) {
  Post<SynchronizeAnswer>(reply,
                          [this, ticket, report = std::move(report), reply] { DoSynchronize(ticket, report, reply); });
}

void Coordinator::DoSynchronize(Ticket ticket, const WorkerReport& report, Reply<SynchronizeAnswer> reply) {
  // One call a worker waits at a time: a new one means that the old one's answer will not be read.
  if (const auto old = open_calls_.find(report.worker); old != open_calls_.end()) {
    after_commit_.push_back([call = std::move(old->second)](const absl::Status& committed) {
      call.reply(committed.ok() ? absl::StatusOr<SynchronizeAnswer>(call.answer) : committed);
    });
    open_calls_.erase(old);
  }
  const Instant now = Now();
  ReportAnswer said = scheduler_->Report(report, now);
  const bool at_once = said.busy || report.draining || !said.revoked.empty() || !said.acknowledged.empty();
  // Jitter keeps many idle workers from calling in step.
  const auto idle = options_.idle_call * (75 + static_cast<int>(random_() % 26)) / 100;
  open_calls_.insert_or_assign(report.worker, OpenCall{.ticket = ticket,
                                                       .answer = {.revoked = std::move(said.revoked),
                                                                  .acknowledged = std::move(said.acknowledged)},
                                                       .deadline = at_once ? now.monotonic : now.monotonic + idle,
                                                       .reply = std::move(reply)});
}

void Coordinator::Abandon(Ticket ticket) {
  queue_.PostAlways([this, ticket] {
    const absl::Status gone = Error(Reason::kCancelled, "Nobody waits for the answer any more.");
    if (const auto watch = watches_.find(ticket); watch != watches_.end()) {
      const Reply<WatchUpdate> reply = std::move(watch->second.reply);
      watches_.erase(watch);
      reply(gone);
      return;
    }
    const auto has_ticket = [ticket](const auto& entry) { return entry.second.ticket == ticket; };
    if (const auto call = std::ranges::find_if(open_calls_, has_ticket); call != open_calls_.end()) {
      const Reply<SynchronizeAnswer> reply = std::move(call->second.reply);
      open_calls_.erase(call);
      reply(gone);
      return;
    }
    if (const auto ephemeral = std::ranges::find_if(ephemerals_, has_ticket); ephemeral != ephemerals_.end()) {
      AnswerEphemeral(ephemeral->first, gone);
    }
  });
}

void Coordinator::Statistics(Reply<CoordinatorStatistics> reply) {
  Post<CoordinatorStatistics>(reply, [this, reply] { reply(DoStatistics()); });
}

CoordinatorStatistics Coordinator::DoStatistics() {
  CoordinatorStatistics statistics{.exports = {}, .workers = {}, .counters = scheduler_->counters()};
  statistics.watchers = static_cast<std::int64_t>(watches_.size());
  if (auto counts = store_->CountByState(); counts.ok()) {
    statistics.exports = *std::move(counts);
  }
  for (const auto& [id, scheduled] : scheduler_->exports()) {
    const ExportProgress progress = scheduled.Progress();
    statistics.queued_bytes += progress.bytes_total - progress.bytes_done;
  }
  for (const auto& [name, worker] : scheduler_->workers().all()) {
    const char* state = clock_.Now() < worker.quarantined_until ? "quarantined"
                        : worker.draining                       ? "draining"
                        : worker.leases.empty()                 ? "idle"
                                                                : "busy";
    ++statistics.workers[state];
  }
  return statistics;
}

}  // namespace slipway::server
