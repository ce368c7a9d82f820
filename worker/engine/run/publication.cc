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
#include "worker/engine/run/publisher_claim.h"
#include "worker/engine/run/staging.h"
#include "worker/engine/write/manifest.h"

namespace slipway::engine {
namespace {

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
        overwrite_(overwrite),
        files_(files),
        claim_(output_, plan.hash, epoch, files),
        claimed_(claim_.directory()) {}

  absl::StatusOr<Publication> Run() {
    if (auto published = AlreadyPublished()) {
      return *std::move(published);
    }
    if (!overwrite_ && files_.Exists(output_)) {
      return OutputExists(output_);
    }
    SLIPWAY_RETURN_IF_ERROR(claim_.Take());
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
      claim_.GiveBack();
    }
    SLIPWAY_RETURN_IF_ERROR(status);
    claim_.CleanUp();
    return Publication{.path = output_, .manifest_digest = manifest_digest_};
  }

 private:
  std::optional<Publication> AlreadyPublished() {
    auto digest = OwnManifest(plan_, export_name_, output_, files_);
    // The rename may not be on disk yet if its publisher died right after it.
    if (!digest || !files_.SyncDirectory(ParentOf(output_)).ok()) {
      return std::nullopt;
    }
    claim_.CleanUp();
    return Publication{.path = output_, .manifest_digest = *std::move(digest)};
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
    SLIPWAY_RETURN_IF_ERROR(claim_.Reveal(overwrite_));
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
    for (const TargetDirectory& directory : plan_.directories) {
      keep.insert(directory.path);
    }
    for (const Shard& shard : plan_.shards) {
      keep.insert(shard.file);
    }
    SLIPWAY_RETURN_IF_ERROR(RemoveAllBut(keep, ""));
    for (const TargetDirectory& directory : plan_.directories) {
      SLIPWAY_RETURN_IF_ERROR(RemoveAllBut(keep, directory.path + "/"));
    }
    return absl::OkStatus();
  }

  // `below`: a directory of the claimed one and a slash, or empty. `keep` has paths in the claimed one.
  absl::Status RemoveAllBut(const std::set<std::string>& keep, const std::string& below) {
    const std::string directory = below.empty() ? claimed_ : fmt::format("{}/{}", claimed_, below);
    SLIPWAY_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries, files_.List(directory));
    for (const DirectoryEntry& entry : entries) {
      if (const std::string path = below + entry.name; !keep.contains(path)) {
        SLIPWAY_RETURN_IF_ERROR(files_.RemoveTree(fmt::format("{}/{}", claimed_, path)));
      }
    }
    return absl::OkStatus();
  }

  const ExportPlan& plan_;
  const std::string output_;
  const std::string export_name_;
  const bool overwrite_;
  FileSystem& files_;
  PublisherClaim claim_;
  const std::string claimed_;
  std::string manifest_digest_;
};

}  // namespace

absl::StatusOr<Publication> Publish(const ExportPlan& plan, const std::string& output, const std::string& export_name,
                                    std::int64_t epoch, bool overwrite, FileSystem& files) {
  return Publisher(plan, output, export_name, epoch, overwrite, files).Run();
}

}  // namespace slipway::engine
