#include "common/reporting_file_system.h"

#include <algorithm>
#include <atomic>
#include <utility>

namespace slipway {
namespace {

bool IsOk(const absl::Status& status) { return status.ok(); }
template <typename Value>
bool IsOk(const absl::StatusOr<Value>& result) {
  return result.ok();
}

// Hands on what a call returned, after saying that it did.
template <typename Result>
Result Reported(const std::function<void()>& progress, Result result) {
  if (IsOk(result)) {
    progress();
  }
  return result;
}

class ReportingFile final : public WritableFile {
 public:
  ReportingFile(std::unique_ptr<WritableFile> real, const std::function<void()>& progress)
      : real_(std::move(real)), progress_(progress) {}

  absl::Status WriteAt(std::int64_t offset, std::span<const iovec> parts) override {
    std::int64_t end = offset;
    for (const iovec& part : parts) {
      end += static_cast<std::int64_t>(part.iov_len);
    }
    std::int64_t known = end_;
    while (known < end && !end_.compare_exchange_weak(known, end)) {
    }
    return Reported(progress_, real_->WriteAt(offset, parts));
  }
  absl::Status Allocate(std::int64_t size) override { return Reported(progress_, real_->Allocate(size)); }
  absl::Status Sync() override {
    for (std::int64_t done = 0; done < end_; done += ReportingFileSystem::kSyncStep) {
      const std::int64_t step = std::min(ReportingFileSystem::kSyncStep, end_ - done);
      SLIPWAY_RETURN_IF_ERROR(Reported(progress_, real_->WriteBack(done, step)));
    }
    return Reported(progress_, real_->Sync());
  }
  void StartWriteBack(std::int64_t offset, std::int64_t length) override { real_->StartWriteBack(offset, length); }
  absl::Status WriteBack(std::int64_t offset, std::int64_t length) override {
    return Reported(progress_, real_->WriteBack(offset, length));
  }

 private:
  const std::unique_ptr<WritableFile> real_;
  const std::function<void()> progress_;
  std::atomic<std::int64_t> end_ = 0;  // of what was written
};

}  // namespace

absl::StatusOr<std::unique_ptr<WritableFile>> ReportingFileSystem::Create(const std::string& path) {
  SLIPWAY_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, Reported(progress_, real_.Create(path)));
  return std::make_unique<ReportingFile>(std::move(file), progress_);
}

absl::StatusOr<std::string> ReportingFileSystem::ReadSmallFile(const std::string& path, std::int64_t maximum) {
  return Reported(progress_, real_.ReadSmallFile(path, maximum));
}

absl::StatusOr<FileIdentity> ReportingFileSystem::Identify(const std::string& path) {
  return Reported(progress_, real_.Identify(path));
}

bool ReportingFileSystem::Exists(const std::string& path) { return real_.Exists(path); }

absl::Status ReportingFileSystem::MakeDirectories(const std::string& path) {
  return Reported(progress_, real_.MakeDirectories(path));
}

absl::StatusOr<std::vector<DirectoryEntry>> ReportingFileSystem::List(const std::string& path) {
  return Reported(progress_, real_.List(path));
}

absl::Status ReportingFileSystem::Rename(const std::string& from, const std::string& to, RenameMode mode) {
  return Reported(progress_, real_.Rename(from, to, mode));
}

absl::Status ReportingFileSystem::RemoveFile(const std::string& path) {
  return Reported(progress_, real_.RemoveFile(path));
}

absl::Status ReportingFileSystem::RemoveTree(const std::string& path) {
  return Reported(progress_, real_.RemoveTree(path));
}

absl::Status ReportingFileSystem::SyncDirectory(const std::string& path) {
  return Reported(progress_, real_.SyncDirectory(path));
}

absl::StatusOr<std::int64_t> ReportingFileSystem::FreeSpace(const std::string& path) {
  return Reported(progress_, real_.FreeSpace(path));
}

absl::StatusOr<std::unique_ptr<FileLock>> ReportingFileSystem::TryLock(const std::string& path, bool exclusive) {
  return Reported(progress_, real_.TryLock(path, exclusive));
}

}  // namespace slipway
