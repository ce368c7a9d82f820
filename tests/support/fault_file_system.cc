#include "tests/support/fault_file_system.h"

#include <utility>

namespace slipway {

class FaultWritableFile final : public WritableFile {
 public:
  FaultWritableFile(FaultFileSystem& owner, std::unique_ptr<WritableFile> real, std::string path)
      : owner_(owner), real_(std::move(real)), path_(std::move(path)) {}

  absl::Status WriteAt(std::int64_t offset, std::span<const iovec> parts) override {
    SLIPWAY_RETURN_IF_ERROR(owner_.Count("WriteAt", path_));
    owner_.MarkWritten(path_);
    return real_->WriteAt(offset, parts);
  }
  absl::Status Allocate(std::int64_t size) override {
    SLIPWAY_RETURN_IF_ERROR(owner_.Count("Allocate", path_));
    return real_->Allocate(size);
  }
  absl::Status Sync() override {
    SLIPWAY_RETURN_IF_ERROR(owner_.Count("Sync", path_));
    owner_.MarkSynced(path_);
    return real_->Sync();
  }
  void StartWriteBack(std::int64_t offset, std::int64_t length) override { real_->StartWriteBack(offset, length); }
  absl::Status WriteBack(std::int64_t offset, std::int64_t length) override {
    SLIPWAY_RETURN_IF_ERROR(owner_.Count("WriteBack", path_));
    return real_->WriteBack(offset, length);
  }

 private:
  FaultFileSystem& owner_;
  std::unique_ptr<WritableFile> real_;
  std::string path_;
};

namespace {

std::string DirectoryOf(const std::string& path) { return path.substr(0, path.rfind('/')); }

// `path` with a leading `from` replaced by `to`.
std::string Moved(const std::string& path, const std::string& from, const std::string& to) {
  const bool inside = path == from || path.starts_with(from + "/");
  return inside ? to + path.substr(from.size()) : path;
}

std::set<std::string> MoveAll(const std::set<std::string>& paths, const std::string& from, const std::string& to) {
  std::set<std::string> moved;
  for (const std::string& path : paths) {
    moved.insert(Moved(path, from, to));
  }
  return moved;
}

}  // namespace

void FaultFileSystem::FailCall(int call, int error_number) {
  const std::lock_guard lock(mutex_);
  calls_ = 0;
  failing_call_ = call;
  error_number_ = error_number;
  failed_ = false;
}

void FaultFileSystem::FailEvery(const std::string& name, int error_number) {
  const std::lock_guard lock(mutex_);
  failing_name_ = name;
  name_error_number_ = error_number;
}

int FaultFileSystem::calls() const {
  const std::lock_guard lock(mutex_);
  return calls_;
}

bool FaultFileSystem::failed() const {
  const std::lock_guard lock(mutex_);
  return failed_;
}

absl::Status FaultFileSystem::Count(const std::string& name, const std::string& path) {
  if (before) {
    before(name, path);
  }
  const std::lock_guard lock(mutex_);
  const bool by_number = ++calls_ == failing_call_;
  if (!by_number && name != failing_name_) {
    return absl::OkStatus();
  }
  failed_ = true;
  return ErrnoError(by_number ? error_number_ : name_error_number_, name, path, FileRole::kOutput);
}

void FaultFileSystem::MarkWritten(const std::string& path) {
  const std::lock_guard lock(mutex_);
  unsynced_.insert(path);
}

void FaultFileSystem::MarkSynced(const std::string& path) {
  const std::lock_guard lock(mutex_);
  unsynced_.erase(path);
}

void FaultFileSystem::DropUnsynced() {
  const std::lock_guard lock(mutex_);
  for (const auto* paths : {&unsynced_, &unsynced_names_}) {
    for (const std::string& path : *paths) {
      real_.RemoveTree(path).IgnoreError();
    }
  }
  unsynced_.clear();
  unsynced_names_.clear();
}

absl::StatusOr<std::unique_ptr<WritableFile>> FaultFileSystem::Create(const std::string& path) {
  SLIPWAY_RETURN_IF_ERROR(Count("Create", path));
  SLIPWAY_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, real_.Create(path));
  const std::lock_guard lock(mutex_);
  unsynced_names_.insert(path);
  return std::make_unique<FaultWritableFile>(*this, std::move(file), path);
}

absl::StatusOr<std::string> FaultFileSystem::ReadSmallFile(const std::string& path, std::int64_t maximum) {
  SLIPWAY_RETURN_IF_ERROR(Count("ReadSmallFile", path));
  return real_.ReadSmallFile(path, maximum);
}

absl::StatusOr<FileIdentity> FaultFileSystem::Identify(const std::string& path) {
  SLIPWAY_RETURN_IF_ERROR(Count("Identify", path));
  return real_.Identify(path);
}

bool FaultFileSystem::Exists(const std::string& path) { return real_.Exists(path); }

absl::Status FaultFileSystem::MakeDirectories(const std::string& path) {
  SLIPWAY_RETURN_IF_ERROR(Count("MakeDirectories", path));
  return real_.MakeDirectories(path);
}

absl::StatusOr<std::vector<DirectoryEntry>> FaultFileSystem::List(const std::string& path) {
  SLIPWAY_RETURN_IF_ERROR(Count("List", path));
  return real_.List(path);
}

absl::Status FaultFileSystem::Rename(const std::string& from, const std::string& to, RenameMode mode) {
  SLIPWAY_RETURN_IF_ERROR(Count("Rename", from));
  SLIPWAY_RETURN_IF_ERROR(real_.Rename(from, to, mode));
  const std::lock_guard lock(mutex_);
  unsynced_ = MoveAll(unsynced_, from, to);
  unsynced_names_ = MoveAll(unsynced_names_, from, to);
  if (mode != RenameMode::kExchange) {
    unsynced_names_.insert(to);
  }
  return absl::OkStatus();
}

absl::Status FaultFileSystem::RemoveFile(const std::string& path) {
  SLIPWAY_RETURN_IF_ERROR(Count("RemoveFile", path));
  return real_.RemoveFile(path);
}

absl::Status FaultFileSystem::RemoveTree(const std::string& path) {
  SLIPWAY_RETURN_IF_ERROR(Count("RemoveTree", path));
  return real_.RemoveTree(path);
}

absl::Status FaultFileSystem::SyncDirectory(const std::string& path) {
  SLIPWAY_RETURN_IF_ERROR(Count("SyncDirectory", path));
  SLIPWAY_RETURN_IF_ERROR(real_.SyncDirectory(path));
  const std::lock_guard lock(mutex_);
  std::erase_if(unsynced_names_, [&path](const std::string& name) { return DirectoryOf(name) == path; });
  return absl::OkStatus();
}

absl::StatusOr<std::int64_t> FaultFileSystem::FreeSpace(const std::string& path) {
  SLIPWAY_RETURN_IF_ERROR(Count("FreeSpace", path));
  return real_.FreeSpace(path);
}

absl::StatusOr<std::unique_ptr<FileLock>> FaultFileSystem::TryLock(const std::string& path, bool exclusive) {
  SLIPWAY_RETURN_IF_ERROR(Count("TryLock", path));
  return real_.TryLock(path, exclusive);
}

}  // namespace slipway
