#include "worker/engine/run/publication.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "common/digest.h"
#include "common/kill_point.h"
#include "worker/engine/run/artifact_files.h"
#include "worker/engine/run/journal.h"
#include "worker/engine/run/staging.h"
#include "worker/engine/write/manifest.h"

namespace slipway::engine {
namespace {

absl::Status LeaseLost(const std::string& output) {
  return Error(Reason::kLeaseLost, "another publisher has the staging directory", {.file = output});
}

absl::Status OutputExists(const std::string& output) {
  return Error(Reason::kOutputExists, "the output exists", {.file = output});
}

// The digest of the manifest in `directory`, if it is this plan's and this export's.
std::optional<std::string> OwnManifest(const ExportPlan& plan, const std::string& export_name,
                                       const std::string& directory, FileSystem& files) {
  const auto text = files.ReadSmallFile(fmt::format("{}/{}", directory, kManifestFile), kMaximumManifest);
  if (!text.ok()) {
    return std::nullopt;
  }
  const auto manifest = ParseManifest(*text);
  if (!manifest.ok() || manifest->plan_hash != plan.hash || manifest->export_name != export_name) {
    return std::nullopt;
  }
  return Sha256(*text);
}

// One publisher's work on one output.
class Publisher {
 public:
  Publisher(const ExportPlan& plan, std::string output, std::string export_name, std::int64_t epoch, bool overwrite,
            FileSystem& files)
      : plan_(plan),
        output_(std::move(output)),
        export_name_(std::move(export_name)),
        epoch_(epoch),
        overwrite_(overwrite),
        files_(files),
        staging_(StagingDirectory(output_, plan.hash)),
        claimed_(ClaimedDirectory(staging_, epoch)) {}

  absl::StatusOr<Publication> Run() {
    if (auto published = AlreadyPublished()) {
      return *std::move(published);
    }
    if (!overwrite_ && files_.Exists(output_)) {
      return OutputExists(output_);
    }
    SLIPWAY_RETURN_IF_ERROR(Claim());
    const absl::Status status = CompleteAndReveal();
    if (!status.ok() && !files_.Exists(claimed_)) {
      // Whoever took it over may have finished by now.
      if (auto published = AlreadyPublished()) {
        return *std::move(published);
      }
      return LeaseLost(output_);
    }
    if (ReasonOf(status) == Reason::kPlanMismatch) {
      // A shard is missing: back to where it can be written again.
      files_.Rename(claimed_, staging_, RenameMode::kNoReplace).IgnoreError();
    }
    SLIPWAY_RETURN_IF_ERROR(status);
    CleanUp();
    return Publication{.path = output_, .manifest_digest = manifest_digest_};
  }

 private:
  std::optional<Publication> AlreadyPublished() {
    auto digest = OwnManifest(plan_, export_name_, output_, files_);
    // The rename may not be on disk yet if its publisher died right after it.
    if (!digest || !files_.SyncDirectory(ParentOf(output_)).ok()) {
      return std::nullopt;
    }
    CleanUp();
    return Publication{.path = output_, .manifest_digest = *std::move(digest)};
  }

  // Renaming is the fence: of all publishers only one has the directory, and one that lost it finds its paths gone.
  absl::Status Claim() {
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
    const absl::Status renamed = files_.Rename(from, claimed_, RenameMode::kNoReplace);
    if (!renamed.ok()) {
      return files_.Exists(from) ? renamed : LeaseLost(output_);
    }
    SLIPWAY_KILL_POINT("publish-after-claim");
    return absl::OkStatus();
  }

  absl::Status CompleteAndReveal() {
    if (!OwnManifest(plan_, export_name_, claimed_, files_)) {
      SLIPWAY_RETURN_IF_ERROR(Complete());
    }
    SLIPWAY_KILL_POINT("publish-after-manifest");
    auto digest = OwnManifest(plan_, export_name_, claimed_, files_);
    if (!digest) {
      return Error(Reason::kOutputUnwritable, "the manifest cannot be read back", {.file = claimed_});
    }
    manifest_digest_ = *std::move(digest);
    SLIPWAY_RETURN_IF_ERROR(files_.RemoveTree(fmt::format("{}/{}", claimed_, kJournalDirectory)));
    if (const std::string lock = fmt::format("{}/{}", claimed_, kLockFile); files_.Exists(lock)) {
      SLIPWAY_RETURN_IF_ERROR(files_.RemoveFile(lock));
    }
    SLIPWAY_RETURN_IF_ERROR(files_.SyncDirectory(claimed_));
    SLIPWAY_KILL_POINT("publish-before-rename");
    SLIPWAY_RETURN_IF_ERROR(Reveal());
    SLIPWAY_KILL_POINT("publish-after-rename");
    return files_.SyncDirectory(ParentOf(output_));
  }

  absl::Status Complete() {
    SLIPWAY_ASSIGN_OR_RETURN(const std::unique_ptr<FileLock> held,
                             files_.TryLock(fmt::format("{}/{}", claimed_, kLockFile), /*exclusive=*/false));
    std::vector<ShardResult> results;
    for (std::size_t i = 0; i < plan_.shards.size(); ++i) {
      auto record = FindRecord(plan_, static_cast<std::int32_t>(i), claimed_, files_);
      if (!record) {
        return Error(Reason::kPlanMismatch, "the staging directory lacks a finished shard",
                     {.file = plan_.shards[i].file});
      }
      results.push_back(*std::move(record));
    }
    SLIPWAY_RETURN_IF_ERROR(RemoveUnplanned());
    return WriteArtifactFiles(plan_, results, export_name_, claimed_, files_);
  }

  absl::Status RemoveUnplanned() {
    std::set<std::string> keep{std::string(kJournalDirectory), std::string(kLockFile)};
    for (const Shard& shard : plan_.shards) {
      keep.insert(shard.file);
    }
    SLIPWAY_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries, files_.List(claimed_));
    for (const DirectoryEntry& entry : entries) {
      if (!keep.contains(entry.name)) {
        SLIPWAY_RETURN_IF_ERROR(files_.RemoveTree(fmt::format("{}/{}", claimed_, entry.name)));
      }
    }
    return absl::OkStatus();
  }

  absl::Status Reveal() {
    const absl::Status renamed = files_.Rename(claimed_, output_, RenameMode::kNoReplace);
    if (renamed.ok() || ReasonOf(renamed) != Reason::kOutputExists) {
      return renamed;
    }
    if (!overwrite_) {
      return OutputExists(output_);
    }
    const absl::Status exchanged = files_.Rename(claimed_, output_, RenameMode::kExchange);
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

  // After the output is there: what an exchange left in place of the claim, what others left. Failures leave it to the
  // next sweep: the export itself is done.
  void CleanUp() {
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

  [[nodiscard]] std::string Trash() const { return claimed_ + ".old.trash"; }

  const ExportPlan& plan_;
  const std::string output_;
  const std::string export_name_;
  const std::int64_t epoch_;
  const bool overwrite_;
  FileSystem& files_;
  const std::string staging_;
  const std::string claimed_;
  std::string manifest_digest_;
};

}  // namespace

absl::StatusOr<std::string> PrepareStaging(const ExportPlan& plan, const std::string& output, bool overwrite,
                                           FileSystem& files) {
  const std::string parent = ParentOf(output);
  if (!overwrite && files.Exists(output)) {
    return OutputExists(output);
  }
  SLIPWAY_RETURN_IF_ERROR(files.MakeDirectories(parent));
  const std::string staging = StagingDirectory(output, plan.hash);
  SLIPWAY_RETURN_IF_ERROR(SweepOthers(output, staging, files));
  SLIPWAY_RETURN_IF_ERROR(TakeBackClaims(staging, files));
  SLIPWAY_RETURN_IF_ERROR(files.MakeDirectories(fmt::format("{}/{}", staging, kJournalDirectory)));
  SLIPWAY_RETURN_IF_ERROR(files.TryLock(fmt::format("{}/{}", staging, kLockFile), /*exclusive=*/false).status());
  std::int64_t missing = 0;
  for (std::size_t i = 0; i < plan.shards.size(); ++i) {
    missing += FindRecord(plan, static_cast<std::int32_t>(i), staging, files) ? 0 : plan.shards[i].bytes;
  }
  SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t free, files.FreeSpace(parent));
  if (missing > free) {
    return Error(Reason::kOutputDiskFull, fmt::format("the output needs {} bytes more, {} are free", missing, free),
                 {.file = output});
  }
  return staging;
}

absl::StatusOr<Publication> Publish(const ExportPlan& plan, const std::string& output, const std::string& export_name,
                                    std::int64_t epoch, bool overwrite, FileSystem& files) {
  return Publisher(plan, output, export_name, epoch, overwrite, files).Run();
}

}  // namespace slipway::engine
