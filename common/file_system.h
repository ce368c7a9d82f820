// The operating system's files behind one interface, so that tests can make any call fail. Everything that writes
// goes through here; what reads checkpoints goes through worker/engine/storage, which is built on it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <sys/uio.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/error.h"

namespace slipway {

// What tells one state of a file from another without reading it.
struct FileIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::int64_t size = 0;
  std::int64_t modified_ns = 0;  // nanoseconds since the epoch
  bool operator==(const FileIdentity&) const = default;
};

struct DirectoryEntry {
  std::string name;
  bool is_directory = false;
};

// A file being written. Writes at distinct positions may come from several threads at once.
class WritableFile {
 public:
  virtual ~WritableFile() = default;  // closes; errors of closing are lost: Sync first
  // Writes all of `parts`, one after the other, from `offset` on. Retries interrupted and short writes.
  virtual absl::Status WriteAt(std::int64_t offset, std::span<const iovec> parts) = 0;
  // Reserves `size` bytes on disk, so that a full disk shows before the work is done. Falls back to setting the size
  // where the file system cannot reserve.
  virtual absl::Status Allocate(std::int64_t size) = 0;
  virtual absl::Status Sync() = 0;
  // Tells the kernel to begin writing out a finished range; a hint.
  virtual void StartWriteBack(std::int64_t offset, std::int64_t length) = 0;
  // Writes a finished range out and waits for it: what is left of it for Sync to do is little. OK where the system
  // cannot. As Sync, it does nothing where finished work need not outlive a power cut.
  virtual absl::Status WriteBack(std::int64_t offset, std::int64_t length) = 0;
};

// A lock on a file that vanishes with the process.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

// What finished work outlives.
enum class Durability {
  kDurable,    // written out and synced: survives a power cut
  kPageCache,  // left to the kernel, as cp does: survives the process, not a power cut
};

enum class RenameMode { kReplace, kNoReplace, kExchange };

// Thread-safe. Paths are absolute, or relative to the working directory. Errors carry the path and a reason of
// FileRole::kOutput.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  // Of what was synced. With kPageCache, syncs and write-back do nothing.
  [[nodiscard]] virtual Durability durability() const = 0;
  // Creates a file, or empties one that exists.
  virtual absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) = 0;
  // The whole of a small file; LIMIT_EXCEEDED past `maximum` bytes.
  virtual absl::StatusOr<std::string> ReadSmallFile(const std::string& path, std::int64_t maximum) = 0;
  // Writes a small file so that after a crash it is whole or absent: temporary name, sync, rename, sync of the
  // directory.
  absl::Status WriteSmallFileAtomically(const std::string& path, std::string_view content);
  virtual absl::StatusOr<FileIdentity> Identify(const std::string& path) = 0;
  virtual bool Exists(const std::string& path) = 0;
  virtual absl::Status MakeDirectories(const std::string& path) = 0;
  virtual absl::StatusOr<std::vector<DirectoryEntry>> List(const std::string& path) = 0;
  virtual absl::Status Rename(const std::string& from, const std::string& to, RenameMode mode) = 0;
  virtual absl::Status RemoveFile(const std::string& path) = 0;
  virtual absl::Status RemoveTree(const std::string& path) = 0;  // OK where there is nothing
  virtual absl::Status SyncDirectory(const std::string& path) = 0;
  // Bytes that can still be written below `path`.
  virtual absl::StatusOr<std::int64_t> FreeSpace(const std::string& path) = 0;
  // Locks `path` (created if absent), shared or exclusive, without waiting: ABORTED where another process holds it.
  virtual absl::StatusOr<std::unique_ptr<FileLock>> TryLock(const std::string& path, bool exclusive) = 0;
};

// The real one. Static storage.
FileSystem& PosixFileSystem(Durability durability = Durability::kDurable);

}  // namespace slipway
