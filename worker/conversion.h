// Between the contract's messages and the engine's own types, which know nothing of each other. All functions are pure.
#pragma once

#include "absl/status/statusor.h"
#include "slipway/v1/export.pb.h"
#include "slipway/v1/worker.pb.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/plan/inspection.h"
#include "worker/engine/run/publication.h"
#include "worker/engine/run/shard_writer.h"

namespace slipway::worker {

// INVALID_ARGUMENT for what no version understands (a negative size, an unknown dtype or digest), OPTION_UNSUPPORTED
// for targets and quantizations that this version does not write; both name the field.
absl::StatusOr<engine::ExportOptions> ToExportOptions(const v1::ExportSpec& spec);

absl::StatusOr<engine::InspectOptions> ToInspectOptions(const v1::Assignment& assignment);

// Without plan_json.
v1::PlanSummary ToPlanSummary(const engine::ExportPlan& plan);

// JSON that answers a request, as it is; LIMIT_EXCEEDED where no message can hold it. `what` is in it: "the plan".
absl::StatusOr<std::string> Sendable(std::string json, std::string_view what);
v1::ShardResult ToShardResult(const engine::ShardResult& result);
v1::PublishResult ToPublishResult(const engine::Publication& publication);

}  // namespace slipway::worker
