#include "worker/engine/storage/local_file.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "common/error.h"
#include "worker/engine/storage/mapped_window.h"

namespace slipway::engine {
namespace {

// Linux transfers at most 0x7ffff000 bytes a call.
constexpr std::size_t kMaximumTransfer = std::size_t{1} << 30;

FileIdentity IdentityFrom(const struct stat& status) {
  return {.device = status.st_dev,
          .inode = status.st_ino,
          .size = status.st_size,
          .modified_ns = static_cast<std::int64_t>(status.st_mtim.tv_sec) * 1'000'000'000 + status.st_mtim.tv_nsec};
}

class LocalFile final : public SourceFile {
 public:
  LocalFile(FileDescriptor descriptor, std::string name, FileIdentity identity)
      : file_(std::make_shared<const OpenFile>(
            OpenFile{.descriptor = std::move(descriptor), .name = std::move(name), .identity = identity})) {}

  [[nodiscard]] const std::string& name() const override { return file_->name; }
  [[nodiscard]] std::int64_t size() const override { return file_->identity.size; }
  [[nodiscard]] FileIdentity identity() const override { return file_->identity; }
  [[nodiscard]] absl::StatusOr<FileIdentity> CurrentIdentity() const override {
    return IdentityOf(file_->descriptor.get(), file_->name);
  }
  [[nodiscard]] absl::Status ReadAt(std::int64_t offset, std::span<std::byte> bytes) const override;
  [[nodiscard]] absl::StatusOr<Window> Map(std::int64_t offset, std::int64_t length) const override;

 private:
  [[nodiscard]] absl::Status CheckRange(std::int64_t offset, std::int64_t length) const;

  std::shared_ptr<const OpenFile> file_;
};

absl::Status LocalFile::CheckRange(std::int64_t offset, std::int64_t length) const {
  if (offset < 0 || length < 0 || offset > size() || length > size() - offset) {
    return Error(Reason::kCheckpointCorrupt,
                 fmt::format("{} bytes at {} lie outside the file, which has {}", length, offset, size()),
                 {.file = name(), .offset = offset});
  }
  return absl::OkStatus();
}

absl::Status LocalFile::ReadAt(std::int64_t offset, std::span<std::byte> bytes) const {
  SLIPWAY_RETURN_IF_ERROR(CheckRange(offset, static_cast<std::int64_t>(bytes.size())));
  while (!bytes.empty()) {
    const ssize_t count =
        ::pread(file_->descriptor.get(), bytes.data(), std::min(bytes.size(), kMaximumTransfer), offset);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return ErrnoError(errno, "pread", name(), FileRole::kCheckpoint);
    }
    if (count == 0) {
      return Error(Reason::kCheckpointChanged, "the file shrank while it was read", {.file = name(), .offset = offset});
    }
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    offset += count;
  }
  return absl::OkStatus();
}

absl::StatusOr<Window> LocalFile::Map(std::int64_t offset, std::int64_t length) const {
  SLIPWAY_RETURN_IF_ERROR(CheckRange(offset, length));
  if (length == 0) {
    return Window();
  }
  return MapWindow(file_, offset, length);
}

}  // namespace

absl::StatusOr<FileIdentity> IdentityOf(int descriptor, const std::string& name) {
  struct stat status = {};
  if (::fstat(descriptor, &status) != 0) {
    return ErrnoError(errno, "fstat", name, FileRole::kCheckpoint);
  }
  return IdentityFrom(status);
}

absl::StatusOr<std::unique_ptr<SourceFile>> MakeLocalFile(FileDescriptor descriptor, std::string name) {
  struct stat status = {};
  if (::fstat(descriptor.get(), &status) != 0) {
    return ErrnoError(errno, "fstat", name, FileRole::kCheckpoint);
  }
  if (!S_ISREG(status.st_mode)) {
    return Error(Reason::kCheckpointCorrupt, "not a regular file", {.file = name});
  }
  return std::make_unique<LocalFile>(std::move(descriptor), std::move(name), IdentityFrom(status));
}

}  // namespace slipway::engine
