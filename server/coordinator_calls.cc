// Calls that may wait: watchers, workers; and giving them up.
#include <algorithm>
#include <utility>

#include "common/error.h"
#include "server/coordinator.h"
#include "server/coordinator_commands.h"

namespace slipway::server {
namespace {

bool Same(const ExportProgress& a, const ExportProgress& b) {
  return a.bytes_done == b.bytes_done && a.bytes_total == b.bytes_total && a.shards_done == b.shards_done &&
         a.shards_total == b.shards_total;
}

}  // namespace

void Coordinator::Watch(Ticket ticket, const std::string& id, std::int64_t cursor, std::optional<ExportProgress> seen,
                        const Reply<WatchUpdate>& reply) {
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

void Coordinator::Synchronize(Ticket ticket, WorkerReport report, const Reply<SynchronizeAnswer>& reply) {
  Post<SynchronizeAnswer>(reply,
                          [this, ticket, report = std::move(report), reply] { DoSynchronize(ticket, report, reply); });
}

void Coordinator::DoSynchronize(Ticket ticket, const WorkerReport& report, Reply<SynchronizeAnswer> reply) {
  // One call a worker waits at a time: a new one means that the old one's answer will not be read.
  if (const auto old = open_calls_.find(report.worker); old != open_calls_.end()) {
    after_commit_.emplace_back([call = std::move(old->second)](const absl::Status& committed) {
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

void Coordinator::Statistics(const Reply<CoordinatorStatistics>& reply) {
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
