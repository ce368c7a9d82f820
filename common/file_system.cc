#include "common/file_system.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

#include <fmt/format.h>

namespace slipway {
namespace {

constexpr int kMaximumLockTries = 8;

// Most bytes of one write call, and what they are aligned to. The page cache makes its folios as large as the write
// that creates them. On a virtual machine that reports free memory to its host (free page reporting), large folios come
// from blocks that the host has taken back, and touching those again costs it a fault each: traced to the copy into the
// folio, 1.2 to 1.5 s a GiB where memory in use costs 0.15 s. Small folios come from fragments first. In memory that
// was touched just before, steps of 256 KiB are quicker than these by a fifth.
constexpr std::int64_t kWriteStep = 64 << 10;

absl::Status OutputError(std::string_view call, std::string_view path, int error_number = errno) {
  return ErrnoError(error_number, call, path, FileRole::kOutput);
}

class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  Descriptor(Descriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (value_ >= 0) {
      ::close(value_);
    }
  }
  [[nodiscard]] int get() const { return value_; }
  [[nodiscard]] bool valid() const { return value_ >= 0; }

 private:
  int value_;
};

// Open calls are interrupted only on slow devices; still, try again.
Descriptor Open(const std::string& path, int flags, mode_t mode = 0) {
  int descriptor = -1;
  do {
    descriptor = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (descriptor < 0 && errno == EINTR);
  return Descriptor(descriptor);
}

FileIdentity IdentityOf(const struct stat& status) {
  constexpr std::int64_t kNanosecondsInASecond = 1'000'000'000;
  return {.device = status.st_dev,
          .inode = status.st_ino,
          .size = status.st_size,
          .modified_ns = status.st_mtim.tv_sec * kNanosecondsInASecond + status.st_mtim.tv_nsec};
}

// The bytes of several parts, taken from the front.
class Cursor {
 public:
  explicit Cursor(std::span<const iovec> parts) : parts_(parts) {}

  // At most IOV_MAX parts with at most `bytes` bytes from the current position on; empty at the end.
  std::span<const iovec> Next(std::size_t bytes) {
    batch_.clear();
    std::size_t within = within_;
    for (std::size_t i = first_; i < parts_.size() && bytes > 0 && batch_.size() < IOV_MAX; ++i) {
      const std::size_t length = std::min(parts_[i].iov_len - within, bytes);
      if (length > 0) {
        batch_.push_back({static_cast<std::byte*>(parts_[i].iov_base) + within, length});
      }
      bytes -= length;
      within = 0;
    }
    return batch_;
  }

  void Advance(std::size_t bytes) {
    within_ += bytes;
    while (first_ < parts_.size() && within_ >= parts_[first_].iov_len) {
      within_ -= parts_[first_].iov_len;
      ++first_;
    }
  }

 private:
  std::span<const iovec> parts_;
  std::size_t first_ = 0;
  std::size_t within_ = 0;  // parts_[first_]
  std::vector<iovec> batch_;
};

class PosixWritableFile final : public WritableFile {
 public:
  PosixWritableFile(Descriptor descriptor, std::string path, Durability durability)
      : descriptor_(std::move(descriptor)), path_(std::move(path)), durable_(durability == Durability::kDurable) {}

  absl::Status WriteAt(std::int64_t offset, std::span<const iovec> parts) override {
    Cursor cursor(parts);
    while (true) {
      const auto room = static_cast<std::size_t>(kWriteStep - offset % kWriteStep);
      const std::span<const iovec> batch = cursor.Next(room);
      if (batch.empty()) {
        return absl::OkStatus();
      }
      const ssize_t written = ::pwritev(descriptor_.get(), batch.data(), static_cast<int>(batch.size()), offset);
      if (written < 0) {
        if (errno == EINTR) {
          continue;
        }
        return AddWhere(OutputError("pwritev", path_), {.offset = offset});
      }
      offset += written;
      cursor.Advance(static_cast<std::size_t>(written));
    }
  }

  absl::Status Allocate(std::int64_t size) override {
    // A file in memory has its pages made by the call, one thread for all of them, instead of by the writes.
    struct statfs system {};
    const bool in_memory = ::fstatfs(descriptor_.get(), &system) == 0 && system.f_type == TMPFS_MAGIC;
    if (size == 0 || (!in_memory && ::fallocate(descriptor_.get(), 0, 0, size) == 0)) {
      return absl::OkStatus();
    }
    if (!in_memory && errno != EOPNOTSUPP && errno != ENOSYS) {
      return OutputError("fallocate", path_);
    }
    return ::ftruncate(descriptor_.get(), size) == 0 ? absl::OkStatus() : OutputError("ftruncate", path_);
  }

  absl::Status Sync() override {
    return !durable_ || ::fsync(descriptor_.get()) == 0 ? absl::OkStatus() : OutputError("fsync", path_);
  }

  void StartWriteBack(std::int64_t offset, std::int64_t length) override {
    if (durable_) {
      static_cast<void>(::sync_file_range(descriptor_.get(), offset, length, SYNC_FILE_RANGE_WRITE));
    }
  }

  // An error that shows here would not show again in Sync.
  absl::Status WriteBack(std::int64_t offset, std::int64_t length) override {
    constexpr unsigned kWhole = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    if (!durable_ || ::sync_file_range(descriptor_.get(), offset, length, kWhole) == 0 || errno == ENOSYS ||
        errno == ESPIPE) {
      return absl::OkStatus();
    }
    return OutputError("sync_file_range", path_);
  }

 private:
  Descriptor descriptor_;
  std::string path_;
  bool durable_;
};

class PosixFileLock final : public FileLock {
 public:
  explicit PosixFileLock(Descriptor descriptor) : descriptor_(std::move(descriptor)) {}

 private:
  Descriptor descriptor_;  // closing releases the lock
};

class PosixFiles final : public FileSystem {
 public:
  explicit PosixFiles(Durability durability) : durability_(durability) {}

  [[nodiscard]] Durability durability() const override { return durability_; }

  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override {
    Descriptor descriptor = Open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (!descriptor.valid()) {
      return OutputError("open", path);
    }
    return std::make_unique<PosixWritableFile>(std::move(descriptor), path, durability_);
  }

  absl::StatusOr<std::string> ReadSmallFile(const std::string& path, std::int64_t maximum) override {
    const Descriptor descriptor = Open(path, O_RDONLY);
    if (!descriptor.valid()) {
      return OutputError("open", path);
    }
    std::string content;
    constexpr std::size_t kStep = std::size_t{64} << 10;
    while (true) {
      const std::size_t size = content.size();
      content.resize(size + kStep);
      const ssize_t got = ::read(descriptor.get(), content.data() + size, kStep);
      if (got < 0 && errno != EINTR) {
        return OutputError("read", path);
      }
      content.resize(size + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
      if (got == 0) {
        return content;
      }
      if (static_cast<std::int64_t>(content.size()) > maximum) {
        return Error(Reason::kLimitExceeded, fmt::format("the file is longer than {} bytes", maximum), {.file = path});
      }
    }
  }

  absl::StatusOr<FileIdentity> Identify(const std::string& path) override {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) {
      return OutputError("stat", path);
    }
    return IdentityOf(status);
  }

  bool Exists(const std::string& path) override {
    struct stat status {};
    return ::lstat(path.c_str(), &status) == 0;
  }

  absl::Status MakeDirectories(const std::string& path) override {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    return error ? OutputError("mkdir", path, error.value()) : absl::OkStatus();
  }

  absl::StatusOr<std::vector<DirectoryEntry>> List(const std::string& path) override {
    std::error_code error;
    std::vector<DirectoryEntry> entries;
    std::filesystem::directory_iterator iterator(path, error);
    for (; !error && iterator != std::filesystem::directory_iterator(); iterator.increment(error)) {
      std::error_code type_error;
      entries.push_back({iterator->path().filename().string(),
                         iterator->symlink_status(type_error).type() == std::filesystem::file_type::directory});
    }
    if (error) {
      return OutputError("readdir", path, error.value());
    }
    std::ranges::sort(entries, {}, &DirectoryEntry::name);
    return entries;
  }

  absl::Status Rename(const std::string& from, const std::string& to, RenameMode mode) override {
    const unsigned flags = mode == RenameMode::kNoReplace  ? static_cast<unsigned>(RENAME_NOREPLACE)
                           : mode == RenameMode::kExchange ? static_cast<unsigned>(RENAME_EXCHANGE)
                                                           : 0U;
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags) == 0) {
      return absl::OkStatus();
    }
    const bool flags_unknown = flags != 0 && (errno == EINVAL || errno == ENOSYS);
    if (!flags_unknown) {
      return OutputError("rename", errno == EEXIST || errno == ENOTEMPTY ? to : from);
    }
    if (mode == RenameMode::kExchange) {
      return Error(Reason::kOptionUnsupported, "the file system cannot exchange two directories", {.file = to});
    }
    if (Exists(to)) {
      return OutputError("rename", to, EEXIST);
    }
    return ::rename(from.c_str(), to.c_str()) == 0 ? absl::OkStatus() : OutputError("rename", from);
  }

  absl::Status RemoveFile(const std::string& path) override {
    return ::unlink(path.c_str()) == 0 ? absl::OkStatus() : OutputError("unlink", path);
  }

  absl::Status RemoveTree(const std::string& path) override {
    std::error_code error;
    std::filesystem::remove_all(path, error);
    return error ? OutputError("remove", path, error.value()) : absl::OkStatus();
  }

  absl::Status SyncDirectory(const std::string& path) override {
    if (durability_ == Durability::kPageCache) {
      return absl::OkStatus();
    }
    const Descriptor descriptor = Open(path, O_RDONLY | O_DIRECTORY);
    if (!descriptor.valid()) {
      return OutputError("open", path);
    }
    return ::fsync(descriptor.get()) == 0 ? absl::OkStatus() : OutputError("fsync", path);
  }

  absl::StatusOr<std::int64_t> FreeSpace(const std::string& path) override {
    struct statvfs status {};
    if (::statvfs(path.c_str(), &status) != 0) {
      return OutputError("statvfs", path);
    }
    return static_cast<std::int64_t>(status.f_bavail) * static_cast<std::int64_t>(status.f_frsize);
  }

  // A lock file may be removed or renamed between opening and locking it; only a lock on the file that `path` still
  // names counts.
  absl::StatusOr<std::unique_ptr<FileLock>> TryLock(const std::string& path, bool exclusive) override {
    for (int tries = 0; tries < kMaximumLockTries; ++tries) {
      Descriptor descriptor = Open(path, O_RDWR | O_CREAT, 0666);
      if (!descriptor.valid()) {
        return OutputError("open", path);
      }
      if (::flock(descriptor.get(), (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) {
          break;
        }
        return OutputError("flock", path);
      }
      struct stat locked {};
      struct stat named {};
      if (::fstat(descriptor.get(), &locked) == 0 && ::stat(path.c_str(), &named) == 0 &&
          locked.st_ino == named.st_ino && locked.st_dev == named.st_dev) {
        return std::make_unique<PosixFileLock>(std::move(descriptor));
      }
    }
    return Error(Reason::kLeaseLost, "another process holds the lock", {.file = path});
  }

 private:
  const Durability durability_;
};

std::string ParentOf(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

// Two processes may write the same small file at once: each under a name of its own.
std::string TemporaryName(const std::string& path) {
  static std::atomic<std::uint64_t> counter{0};
  return fmt::format("{}.partial-{}-{}", path, ::getpid(), counter.fetch_add(1));
}

absl::Status WriteWhole(FileSystem& files, const std::string& path, std::string_view content) {
  SLIPWAY_ASSIGN_OR_RETURN(const std::unique_ptr<WritableFile> file, files.Create(path));
  // iovec is not const-correct; pwritev only reads.
  const iovec part{const_cast<char*>(content.data()), content.size()};
  SLIPWAY_RETURN_IF_ERROR(file->WriteAt(0, std::span(&part, 1)));
  return file->Sync();
}

}  // namespace

absl::Status FileSystem::WriteSmallFileAtomically(const std::string& path, std::string_view content) {
  const std::string temporary = TemporaryName(path);
  absl::Status status = WriteWhole(*this, temporary, content);
  if (status.ok()) {
    status = Rename(temporary, path, RenameMode::kReplace);
  }
  if (!status.ok()) {
    RemoveFile(temporary).IgnoreError();
    return status;
  }
  return SyncDirectory(ParentOf(path));
}

FileSystem& PosixFileSystem(Durability durability) {
  static PosixFiles durable(Durability::kDurable);
  static PosixFiles page_cache(Durability::kPageCache);
  return durability == Durability::kDurable ? durable : page_cache;
}

}  // namespace slipway
