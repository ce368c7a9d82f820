#include "worker/engine/run/staging.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "worker/engine/run/journal.h"
#include "worker/engine/run/output_guard.h"
#include "worker/engine/run/publisher_claim.h"

namespace slipway::engine {
namespace {

constexpr std::size_t kHashDigits = 16;

std::string NameIn(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string PrefixOf(const std::string& output) { return fmt::format(".{}.slipway-", NameIn(output)); }

}  // namespace

std::string ParentOf(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

std::string StagingDirectory(const std::string& output, const std::string& plan_hash) {
  return fmt::format("{}/{}{}", ParentOf(output), PrefixOf(output), plan_hash.substr(0, kHashDigits));
}

std::string ClaimedDirectory(const std::string& staging, std::int64_t epoch) {
  return fmt::format("{}.e{}", staging, epoch);
}

absl::StatusOr<std::string> PrepareStaging(const ExportPlan& plan, const std::string& output, bool overwrite,
                                           FileSystem& files) {
  const std::string parent = ParentOf(output);
  SLIPWAY_RETURN_IF_ERROR(CheckApartFromSources(plan, output));
  if (files.Exists(output)) {
    SLIPWAY_RETURN_IF_ERROR(overwrite ? CheckReplaceable(output, files) : OutputExists(output));
  }
  SLIPWAY_RETURN_IF_ERROR(files.MakeDirectories(parent));
  const std::string staging = StagingDirectory(output, plan.hash);
  SLIPWAY_RETURN_IF_ERROR(SweepOthers(output, staging, files));
  SLIPWAY_RETURN_IF_ERROR(TakeBackClaims(staging, files));
  SLIPWAY_RETURN_IF_ERROR(files.MakeDirectories(fmt::format("{}/{}", staging, kJournalDirectory)));
  for (const TargetDirectory& directory : plan.directories) {
    SLIPWAY_RETURN_IF_ERROR(files.MakeDirectories(fmt::format("{}/{}", staging, directory.path)));
  }
  if (!plan.directories.empty()) {
    SLIPWAY_RETURN_IF_ERROR(files.SyncDirectory(staging));
  }
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

absl::StatusOr<std::vector<std::int64_t>> ClaimsOf(const std::string& staging, FileSystem& files) {
  const std::string prefix = NameIn(staging) + ".e";
  SLIPWAY_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries, files.List(ParentOf(staging)));
  std::vector<std::int64_t> epochs;
  for (const DirectoryEntry& entry : entries) {
    if (!entry.name.starts_with(prefix)) {
      continue;
    }
    std::int64_t epoch = 0;
    const char* const end = entry.name.data() + entry.name.size();
    const auto [parsed_to, error] = std::from_chars(entry.name.data() + prefix.size(), end, epoch);
    if (error == std::errc() && parsed_to == end) {
      epochs.push_back(epoch);
    }
  }
  std::ranges::sort(epochs);
  return epochs;
}

void RemoveIfUnheld(const std::string& directory, FileSystem& files) {
  const std::string lock_path = fmt::format("{}/{}", directory, kLockFile);
  std::unique_ptr<FileLock> lock;
  if (files.Exists(lock_path)) {
    auto locked = files.TryLock(lock_path, /*exclusive=*/true);
    if (!locked.ok()) {
      return;
    }
    lock = *std::move(locked);
  }
  const std::string trash = directory + ".trash";
  files.RemoveTree(trash).IgnoreError();
  if (files.Rename(directory, trash, RenameMode::kNoReplace).ok()) {
    files.RemoveTree(trash).IgnoreError();
  }
}

absl::Status TakeBackClaims(const std::string& staging, FileSystem& files) {
  SLIPWAY_ASSIGN_OR_RETURN(std::vector<std::int64_t> claims, ClaimsOf(staging, files));
  if (!claims.empty() && !files.Exists(staging)) {
    const std::string last = ClaimedDirectory(staging, claims.back());
    const std::string lock_path = fmt::format("{}/{}", last, kLockFile);
    const bool locked = !files.Exists(lock_path) || files.TryLock(lock_path, /*exclusive=*/true).ok();
    if (locked) {
      SLIPWAY_RETURN_IF_ERROR(files.Rename(last, staging, RenameMode::kNoReplace));
    }
    claims.pop_back();
  }
  for (const std::int64_t epoch : claims) {
    RemoveIfUnheld(ClaimedDirectory(staging, epoch), files);
  }
  return absl::OkStatus();
}

absl::Status SweepOthers(const std::string& output, const std::string& staging, FileSystem& files) {
  const std::string parent = ParentOf(output);
  const std::string own = NameIn(staging);
  SLIPWAY_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries, files.List(parent));
  for (const DirectoryEntry& entry : entries) {
    const bool is_trash = entry.name.ends_with(".trash");
    if (!entry.name.starts_with(PrefixOf(output)) || (entry.name.starts_with(own) && !is_trash)) {
      continue;
    }
    const std::string path = fmt::format("{}/{}", parent, entry.name);
    if (is_trash) {
      files.RemoveTree(path).IgnoreError();
    } else {
      RemoveIfUnheld(path, files);
    }
  }
  return absl::OkStatus();
}

}  // namespace slipway::engine
