// Tasks that no export stands behind: validation and inspection. They live as long as somebody waits for them.
#include <utility>

#include <fmt/format.h>

#include "common/error.h"
#include "server/coordinator.h"
#include "server/coordinator_commands.h"

namespace slipway::server {

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

void Coordinator::ExpireEphemerals(Instant now) {
  std::vector<std::string> unserved;
  std::vector<std::string> late;
  for (const auto& [name, ephemeral] : ephemerals_) {
    const ScheduledExport* scheduled = scheduler_->Find(name);
    if (now.monotonic >= ephemeral.deadline) {
      late.push_back(name);
    } else if (now.monotonic >= ephemeral.worker_deadline && scheduled != nullptr && !scheduled->plan.lease &&
               !scheduled->plan.done) {
      unserved.push_back(name);
    }
  }
  for (const std::string& name : unserved) {
    AnswerEphemeral(name, Error(Reason::kServerUnreachable,
                                "No worker is free to look at the checkpoint; start one or try again."));
  }
  for (const std::string& name : late) {
    AnswerEphemeral(name, Error(Reason::kServerUnreachable, "The workers took too long to look at the checkpoint."));
  }
}

void Coordinator::AnswerEphemeral(const std::string& name, absl::StatusOr<Outcome> outcome) {
  const auto found = ephemerals_.find(name);
  if (found == ephemerals_.end()) {
    return;
  }
  const std::string id = found->first;
  const Reply<Outcome> reply = std::move(found->second.reply);
  ephemerals_.erase(found);
  scheduler_->DropEphemeral(id);
  reply(std::move(outcome));
}

void Coordinator::FinishEphemerals() {
  for (auto& [name, outcome] : scheduler_->TakeEphemeralResults()) {
    const auto* error = std::get_if<absl::Status>(&outcome);
    AnswerEphemeral(name, error != nullptr ? absl::StatusOr<Outcome>(*error) : std::move(outcome));
  }
}

}  // namespace slipway::server
