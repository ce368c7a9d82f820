// From a staging directory with all its shards to a published artifact: fenced, atomic, complete.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/file_system.h"
#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

struct Publication {
  std::string path;
  std::string manifest_digest;  // SHA-256 of manifest.json; of several targets, of that of them all
};

// Completes and publishes: claims the staging directory by renaming it to a name with `epoch` (a stale publisher finds
// it gone: LEASE_LOST), removes what the plan does not name, writes texts, sidecars, index and manifest from the
// journal's records, syncs everything, renames it to `output` (OUTPUT_EXISTS unless overwrite, which exchanges and then
// removes the old one), syncs the parent. An `output` that already carries this plan's manifest and `export_name`
// counts as published. A directory that a publisher of an earlier epoch claimed and left is taken over. PLAN_MISMATCH
// names a shard that is not finished; the others stay in the staging directory.
absl::StatusOr<Publication> Publish(const ExportPlan& plan, const std::string& output, const std::string& export_name,
                                    std::int64_t epoch, bool overwrite, FileSystem& files);

}  // namespace slipway::engine
