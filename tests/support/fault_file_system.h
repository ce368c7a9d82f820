// A FileSystem in which a chosen call fails, that counts its calls, and that knows what a power cut would lose.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "common/file_system.h"

namespace slipway {

// Passes calls on to another FileSystem. Thread-safe.
class FaultFileSystem final : public FileSystem {
 public:
  explicit FaultFileSystem(FileSystem& real) : real_(real) {}

  // Call number `call` (from 1, over all calls that can fail) fails with `error_number`; 0: none does. Restarts the
  // count.
  void FailCall(int call, int error_number);
  // Every call of that name ("Allocate", "Rename", ...) fails with `error_number`.
  void FailEvery(const std::string& name, int error_number);
  [[nodiscard]] int calls() const;
  [[nodiscard]] bool failed() const;  // whether a call was made to fail
  // Called before each call with its name and path, e.g. to let somebody else act in between.
  std::function<void(const std::string& name, const std::string& path)> before = {};

  // Removes the files and names that were never synced, as a power cut may: files whose last write was not synced, and
  // entries of directories that were not synced since.
  void DropUnsynced();

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
  friend class FaultWritableFile;
  absl::Status Count(const std::string& name, const std::string& path);
  void MarkWritten(const std::string& path);
  void MarkSynced(const std::string& path);

  FileSystem& real_;
  mutable std::mutex mutex_;
  int calls_ = 0;
  int failing_call_ = 0;
  int error_number_ = 0;
  std::string failing_name_;
  int name_error_number_ = 0;
  bool failed_ = false;
  std::set<std::string> unsynced_;        // files written and not synced since
  std::set<std::string> unsynced_names_;  // created or renamed to, directory not synced since
};

}  // namespace slipway
