// Where checkpoints are read from: a directory of files (or, later, a prefix of an object store) as named byte ranges.
// Names never leave their directory: the implementation refuses absolute names, "..", and links that lead out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/file_system.h"

namespace slipway::engine {

// A read-only view of a range of a file, valid while the Window lives. For local files these are the page cache's own
// pages: reading them copies nothing, and a file that shrinks or fails to read meanwhile makes zeros appear instead of
// a crash; Check() tells. Movable; used by one thread at a time.
class Window {
 public:
  class Backing {
   public:
    virtual ~Backing() = default;
    [[nodiscard]] virtual absl::Status Check() const = 0;
  };

  Window() = default;
  Window(std::span<const std::byte> bytes, std::unique_ptr<Backing> backing)
      : bytes_(bytes), backing_(std::move(backing)) {}

  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }
  // After the bytes were used and before the result counts: CHECKPOINT_CHANGED or CHECKPOINT_UNREADABLE if they were
  // not the file's.
  [[nodiscard]] absl::Status Check() const { return backing_ ? backing_->Check() : absl::OkStatus(); }

 private:
  std::span<const std::byte> bytes_;
  std::unique_ptr<Backing> backing_;
};

// One open file. Thread-safe.
class SourceFile {
 public:
  virtual ~SourceFile() = default;
  [[nodiscard]] virtual const std::string& name() const = 0;  // for messages
  [[nodiscard]] virtual std::int64_t size() const = 0;
  // As it was when the file was opened.
  [[nodiscard]] virtual FileIdentity identity() const = 0;
  // As it is now.
  [[nodiscard]] virtual absl::StatusOr<FileIdentity> CurrentIdentity() const = 0;
  // Fills all of `bytes` from `offset` on; CHECKPOINT_CORRUPT past the end of the file.
  [[nodiscard]] virtual absl::Status ReadAt(std::int64_t offset, std::span<std::byte> bytes) const = 0;
  // A view of [offset, offset+length); CHECKPOINT_CORRUPT past the end of the file.
  [[nodiscard]] virtual absl::StatusOr<Window> Map(std::int64_t offset, std::int64_t length) const = 0;
};

// One directory. Thread-safe.
class SourceDirectory {
 public:
  virtual ~SourceDirectory() = default;
  [[nodiscard]] virtual const std::string& path() const = 0;  // for messages
  // Entries directly below, sorted by name.
  [[nodiscard]] virtual absl::StatusOr<std::vector<DirectoryEntry>> List() const = 0;
  [[nodiscard]] virtual bool Exists(const std::string& name) const = 0;
  // CHECKPOINT_NOT_FOUND, PATH_OUTSIDE_ROOT, CHECKPOINT_UNREADABLE. `name` may contain '/' but stays below.
  [[nodiscard]] virtual absl::StatusOr<std::unique_ptr<SourceFile>> Open(const std::string& name) const = 0;
  [[nodiscard]] virtual absl::StatusOr<std::unique_ptr<SourceDirectory>> OpenDirectory(
      const std::string& name) const = 0;
  // The whole of a small file; LIMIT_EXCEEDED past `maximum` bytes.
  [[nodiscard]] absl::StatusOr<std::string> ReadSmallFile(const std::string& name, std::int64_t maximum) const;
};

// A local directory; CHECKPOINT_NOT_FOUND where there is none.
absl::StatusOr<std::unique_ptr<SourceDirectory>> OpenLocalDirectory(const std::string& path);

}  // namespace slipway::engine
