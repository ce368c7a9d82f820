// Everything of an artifact but its shards: texts, sidecars, index, the report of what is quantized, manifest.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/file_system.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/run/shard_writer.h"

namespace slipway::engine {

// Writes them into `directory`, which holds the shards of `results` (all of the plan's, in order); the manifest last,
// so that where there is a manifest everything is there. Each is on disk on return. Of several targets: those of each
// directory, and then a manifest of them all, which has no tensors but says which directories there are. Errors:
// OUTPUT_*, CHECKPOINT_* for a sidecar that cannot be read or is no longer what was planned.
absl::Status WriteArtifactFiles(const ExportPlan& plan, const std::vector<ShardResult>& results,
                                const std::string& export_name, const std::string& directory, FileSystem& files);

}  // namespace slipway::engine
