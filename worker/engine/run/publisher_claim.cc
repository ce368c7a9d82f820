#include "worker/engine/run/publisher_claim.h"

#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/error.h"
#include "common/kill_point.h"
#include "worker/engine/run/staging.h"

namespace slipway::engine {

absl::Status LeaseLost(const std::string& output) {
  return Error(Reason::kLeaseLost, "another publisher has the staging directory", {.file = output});
}

absl::Status OutputExists(const std::string& output) {
  return Error(Reason::kOutputExists, "the output exists", {.file = output});
}

PublisherClaim::PublisherClaim(std::string output, const std::string& plan_hash, std::int64_t epoch, FileSystem& files)
    : output_(std::move(output)),
      epoch_(epoch),
      files_(files),
      staging_(StagingDirectory(output_, plan_hash)),
      claimed_(ClaimedDirectory(staging_, epoch)) {}

absl::Status PublisherClaim::Take() {
  SLIPWAY_ASSIGN_OR_RETURN(const std::vector<std::int64_t> claims, ClaimsOf(staging_, files_));
  if (!claims.empty() && claims.back() > epoch_) {
    return LeaseLost(output_);
  }
  if (!claims.empty() && claims.back() == epoch_) {
    return absl::OkStatus();
  }
  const std::string from = claims.empty() ? staging_ : ClaimedDirectory(staging_, claims.back());
  if (!files_.Exists(from)) {
    return LeaseLost(output_);
  }
  SLIPWAY_KILL_POINT("publish-before-claim");
  absl::Status renamed = files_.Rename(from, claimed_, RenameMode::kNoReplace);
  if (!renamed.ok()) {
    return files_.Exists(from) ? renamed : LeaseLost(output_);
  }
  SLIPWAY_KILL_POINT("publish-after-claim");
  return absl::OkStatus();
}

absl::Status PublisherClaim::Reveal(bool overwrite) {
  absl::Status renamed = files_.Rename(claimed_, output_, RenameMode::kNoReplace);
  if (renamed.ok() || ReasonOf(renamed) != Reason::kOutputExists) {
    return renamed;
  }
  if (!overwrite) {
    return OutputExists(output_);
  }
  absl::Status exchanged = files_.Rename(claimed_, output_, RenameMode::kExchange);
  if (!absl::IsUnimplemented(exchanged)) {
    return exchanged;
  }
  // Without an exchange there is a moment without any output; a crash in it leaves the new one claimed, and the next
  // publisher reveals it.
  SLIPWAY_RETURN_IF_ERROR(files_.RemoveTree(Trash()));
  SLIPWAY_RETURN_IF_ERROR(files_.Rename(output_, Trash(), RenameMode::kNoReplace));
  SLIPWAY_KILL_POINT("publish-between-renames");
  return files_.Rename(claimed_, output_, RenameMode::kNoReplace);
}

void PublisherClaim::CleanUp() {
  SLIPWAY_KILL_POINT("publish-before-cleanup");
  if (const auto claims = ClaimsOf(staging_, files_); claims.ok()) {
    for (const std::int64_t epoch : *claims) {
      RemoveIfUnheld(ClaimedDirectory(staging_, epoch), files_);
    }
  }
  if (files_.Exists(staging_)) {
    RemoveIfUnheld(staging_, files_);
  }
  SweepOthers(output_, staging_, files_).IgnoreError();
}

}  // namespace slipway::engine
