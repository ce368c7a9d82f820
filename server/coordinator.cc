// Exports as a client handles them: made, looked at, cancelled, forgotten.
#include "server/coordinator.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"
#include "server/coordinator_commands.h"

namespace slipway::server {

void Coordinator::Create(NewExport request, const Reply<ExportView>& reply) {
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

void Coordinator::Get(const std::string& id, const Reply<ExportView>& reply) {
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

void Coordinator::List(const ListQuery& query, const Reply<std::vector<ExportView>>& reply) {
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

void Coordinator::Cancel(const std::string& id, const Reply<ExportView>& reply) {
  Post<ExportView>(reply, [this, id, reply] {
    if (const ScheduledExport* scheduled = scheduler_->Find(id); scheduled != nullptr && !scheduled->ephemeral) {
      scheduler_->Cancel(id, Now());
    }
    AnswerAfterCommit<ExportView>(reply, [this, id] { return ViewOf(id); });
  });
}

void Coordinator::Delete(const std::string& id, const Reply<ExportRecord>& reply) {
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

}  // namespace slipway::server
