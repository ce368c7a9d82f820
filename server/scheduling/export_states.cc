#include "server/scheduling/export_states.h"

#include <algorithm>
#include <array>

namespace slipway::server {
namespace {

using enum ExportState;

struct Transition {
  ExportState from;
  ExportEvent event;
  ExportState to;
};

constexpr std::array kTransitions = std::to_array<Transition>({
    {kQueued, ExportEvent::kPlanLeased, kPlanning},
    {kPlanning, ExportEvent::kPlanReturned, kQueued},
    {kPlanning, ExportEvent::kPlanned, kRunning},
    {kRunning, ExportEvent::kShardsDone, kPublishing},
    {kPublishing, ExportEvent::kPublished, kSucceeded},

    {kQueued, ExportEvent::kFailed, kFailed},
    {kPlanning, ExportEvent::kFailed, kFailed},
    {kRunning, ExportEvent::kFailed, kFailed},
    {kPublishing, ExportEvent::kFailed, kFailed},

    {kQueued, ExportEvent::kCancel, kCancelling},
    {kPlanning, ExportEvent::kCancel, kCancelling},
    {kRunning, ExportEvent::kCancel, kCancelling},
    {kPublishing, ExportEvent::kCancel, kCancelling},
    {kCancelling, ExportEvent::kPublished, kSucceeded},
    {kCancelling, ExportEvent::kLetGo, kCancelled},
});

struct StateName {
  ExportState state;
  std::string_view name;
};

constexpr std::array kNames = std::to_array<StateName>({
    {kQueued, "QUEUED"},
    {kPlanning, "PLANNING"},
    {kRunning, "RUNNING"},
    {kPublishing, "PUBLISHING"},
    {kSucceeded, "SUCCEEDED"},
    {kFailed, "FAILED"},
    {kCancelling, "CANCELLING"},
    {kCancelled, "CANCELLED"},
});

}  // namespace

std::optional<ExportState> NextState(ExportState state, ExportEvent event) {
  const auto* row =
      std::ranges::find_if(kTransitions, [&](const Transition& t) { return t.from == state && t.event == event; });
  return row == kTransitions.end() ? std::nullopt : std::optional(row->to);
}

bool IsFinal(ExportState state) { return state == kSucceeded || state == kFailed || state == kCancelled; }

std::string_view NameOf(ExportState state) {
  const auto* row = std::ranges::find(kNames, state, &StateName::state);
  return row == kNames.end() ? "UNKNOWN" : row->name;
}

std::optional<ExportState> ExportStateFromName(std::string_view name) {
  const auto* row = std::ranges::find(kNames, name, &StateName::name);
  return row == kNames.end() ? std::nullopt : std::optional(row->state);
}

}  // namespace slipway::server
