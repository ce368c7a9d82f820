// Several targets from one checkpoint: their plans joined to one, and taken apart again.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

// One plan of `plans`: finished plans of one checkpoint, each of one target and no two of the same. Its options are the
// first one's but for the targets. What a target's plan writes is written below "<target>/", otherwise as it was:
// files, offsets and bytes. Shards that read the same weights are neighbours (shard_order.h). Warnings and unused
// regions that several plans have are there once; input_bytes is the largest of all. One plan stays as it is.
// LIMIT_EXCEEDED where the sums do not fit, INTERNAL for plans that do not belong together, and what CheckFiles says.
absl::StatusOr<ExportPlan> JoinPlans(std::vector<ExportPlan> plans);

// The plan of one of a joined plan's directories, as JoinPlans was given it: a copy, with paths relative to the
// directory.
[[nodiscard]] ExportPlan PlanOfDirectory(const ExportPlan& joined, std::size_t directory);

// `path` of a file of a joined plan relative to its directory.
[[nodiscard]] std::string PathInDirectory(const TargetDirectory& directory, const std::string& path);

}  // namespace slipway::engine
