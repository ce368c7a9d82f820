// From a staging directory with all its shards to a published artifact: fenced, atomic, complete.
//
// The staging directory of output P/NAME under plan hash H is P/.NAME.slipway-<first 16 digits of H>; it holds shards
// under their final names, attempts' temporary files, and journal/<shard>.json, one record per finished shard. Writers
// hold a shared lock on its file `lock`.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/file_system.h"
#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

std::string StagingDirectory(const std::string& output, const std::string& plan_hash);

// Creates the staging directory of `plan` for `output` if it is not there; checks that output's parent can be written,
// that there is room for what is missing, that the output does not exist (unless overwrite). Removes staging
// directories of the same output left by other plans that nobody holds, and takes back what a dead publisher had
// claimed. Returns the directory.
absl::StatusOr<std::string> PrepareStaging(const ExportPlan& plan, const std::string& output, bool overwrite,
                                           FileSystem& files);

struct Publication {
  std::string path;
  std::string manifest_digest;  // SHA-256 of manifest.json
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
