// The directories beside an output that belong to it: their names, making the one to write into, and taking away those
// that nobody needs.
//
//   P/.NAME.slipway-<plan>           staging: shards are written here
//   P/.NAME.slipway-<plan>.e<epoch>  claimed by the publisher of that epoch
//   P/.NAME.slipway-....trash        being removed
//
// <plan> is the first 16 digits of the plan's hash. A staging directory holds shards under their final names, attempts'
// temporary files, and journal/<shard>.json, one record per finished shard; of several targets each in the target's
// directory. Writers hold a shared lock on its file `lock`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

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

[[nodiscard]] std::string ParentOf(const std::string& path);
[[nodiscard]] std::string ClaimedDirectory(const std::string& staging, std::int64_t epoch);

// Epochs of the publishers that have claimed `staging`, ascending.
absl::StatusOr<std::vector<std::int64_t>> ClaimsOf(const std::string& staging, FileSystem& files);

// Removes the directory unless a process holds its lock. It is renamed first, so that whoever comes back to it finds
// it gone, never half of it. Failures leave it to the next sweep.
void RemoveIfUnheld(const std::string& directory, FileSystem& files);

// What publishers that are no more had claimed of `staging`, perhaps under a coordinator that is no more and counted
// epochs of its own: the last claim becomes the staging directory again where there is none, the others go. What a
// process holds stays.
absl::Status TakeBackClaims(const std::string& staging, FileSystem& files);

// Removes what belongs to `output` but not to `staging`, unless it is held.
absl::Status SweepOthers(const std::string& output, const std::string& staging, FileSystem& files);

}  // namespace slipway::engine
