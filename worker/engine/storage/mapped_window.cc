#include "worker/engine/storage/mapped_window.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "common/error.h"
#include "worker/engine/storage/fault_guard.h"
#include "worker/engine/storage/local_file.h"

namespace slipway::engine {
namespace {

constexpr std::size_t kReadAheadFrom = std::size_t{1} << 20;  // below, the kernel's own read-ahead does as well

class Mapping {
 public:
  Mapping(void* start, std::size_t length) : start_(start), length_(length) {}
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { ::munmap(start_, length_); }

 private:
  void* start_;
  std::size_t length_;
};

class MappedBacking final : public Window::Backing {
 public:
  MappedBacking(std::shared_ptr<const OpenFile> file, std::int64_t offset, void* start, std::size_t length,
                GuardedRange guard)
      : file_(std::move(file)), offset_(offset), mapping_(start, length), guard_(std::move(guard)) {}

  [[nodiscard]] absl::Status Check() const override {
    SLIPWAY_ASSIGN_OR_RETURN(const FileIdentity now, IdentityOf(file_->descriptor.get(), file_->name));
    if (now != file_->identity) {
      return Error(Reason::kCheckpointChanged, "the file changed while it was read",
                   {.file = file_->name, .offset = offset_});
    }
    if (guard_.faulted()) {
      return Error(Reason::kCheckpointUnreadable, "the storage failed to deliver a page of the file",
                   {.file = file_->name, .offset = offset_});
    }
    return absl::OkStatus();
  }

 private:
  std::shared_ptr<const OpenFile> file_;
  std::int64_t offset_;
  Mapping mapping_;
  GuardedRange guard_;  // after mapping_: unregistered before the range is unmapped
};

}  // namespace

absl::StatusOr<Window> MapWindow(std::shared_ptr<const OpenFile> file, std::int64_t offset, std::int64_t length) {
  static const std::int64_t page = ::sysconf(_SC_PAGESIZE);
  const std::int64_t lead = offset % page;
  const auto mapped_length = static_cast<std::size_t>((lead + length + page - 1) / page * page);
  void* const start = ::mmap(nullptr, mapped_length, PROT_READ, MAP_SHARED, file->descriptor.get(), offset - lead);
  if (start == MAP_FAILED) {
    return ErrnoError(errno, "mmap", file->name, FileRole::kCheckpoint);
  }
  std::optional<GuardedRange> guard = GuardedRange::Register(start, mapped_length);
  if (!guard) {
    ::munmap(start, mapped_length);
    return Error(Reason::kLimitExceeded, "too many windows on files at once", {.file = file->name});
  }
  if (mapped_length >= kReadAheadFrom) {
    ::madvise(start, mapped_length, MADV_WILLNEED);
  }
  const auto* const bytes = static_cast<const std::byte*>(start) + lead;
  auto backing = std::make_unique<MappedBacking>(std::move(file), offset, start, mapped_length, *std::move(guard));
  return Window(std::span(bytes, static_cast<std::size_t>(length)), std::move(backing));
}

}  // namespace slipway::engine
