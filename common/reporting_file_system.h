// A FileSystem that says that it gets on: for watchdogs, which must tell slow storage from storage that hangs.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/file_system.h"

namespace slipway {

// Passes calls on to another FileSystem and calls `progress` after each that succeeded. A long file is synced in steps,
// each of which is progress. Thread-safe if `progress` is; `real` outlives it.
class ReportingFileSystem final : public FileSystem {
 public:
  // Bytes of a file that are synced at a time.
  static constexpr std::int64_t kSyncStep = std::int64_t{32} << 20;

  ReportingFileSystem(FileSystem& real, std::function<void()> progress) : real_(real), progress_(std::move(progress)) {}

  [[nodiscard]] Durability durability() const override { return real_.durability(); }
  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override;
  absl::StatusOr<std::string> ReadSmallFile(const std::string& path, std::int64_t maximum) override;
  absl::StatusOr<FileIdentity> Identify(const std::string& path) override;
  bool Exists(const std::string& path) override;
  absl::Status MakeDirectories(const std::string& path) override;
  absl::StatusOr<std::vector<DirectoryEntry>> List(const std::string& path) override;
  absl::Status Rename(const std::string& from, const std::string& to, RenameMode mode) override;
  absl::Status RemoveFile(const std::string& path) override;
  absl::Status RemoveTree(const std::string& path) override;
  absl::Status SyncDirectory(const std::string& path) override;
  absl::StatusOr<std::int64_t> FreeSpace(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<FileLock>> TryLock(const std::string& path, bool exclusive) override;

 private:
  FileSystem& real_;
  const std::function<void()> progress_;
};

}  // namespace slipway
