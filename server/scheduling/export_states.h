// The life of an export as one table: (state, event) -> state.
//
//   QUEUED <-> PLANNING -> RUNNING -> PUBLISHING -> SUCCEEDED
//      any of the first four -> FAILED
//      any of the first four -> CANCELLING -> CANCELLED, or SUCCEEDED where publication was faster
#pragma once

#include <optional>
#include <string_view>

namespace slipway::server {

// Numbers as in proto/slipway/v1/export.proto; durable.
enum class ExportState {
  kQueued = 1,
  kPlanning = 2,
  kRunning = 3,
  kPublishing = 4,
  kSucceeded = 5,
  kFailed = 6,
  kCancelling = 7,
  kCancelled = 8,
};

enum class ExportEvent {
  kPlanLeased,    // a worker took the planning task
  kPlanReturned,  // the planning attempt ended without a plan
  kPlanned,       // the plan is made
  kShardsDone,    // the last shard is written
  kPublished,     // the artifact is in place
  kFailed,        // the export cannot succeed, no lease lives, partial output is gone
  kCancel,        // somebody asked for the end
  kLetGo,         // after kCancel: no lease lives, partial output is gone
};

// The state after `event`, or nullopt where the event cannot happen.
[[nodiscard]] std::optional<ExportState> NextState(ExportState state, ExportEvent event);

// Whether the state never changes again.
[[nodiscard]] bool IsFinal(ExportState state);

// "QUEUED".
[[nodiscard]] std::string_view NameOf(ExportState state);
[[nodiscard]] std::optional<ExportState> ExportStateFromName(std::string_view name);

}  // namespace slipway::server
