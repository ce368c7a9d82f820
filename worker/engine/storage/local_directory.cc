// A local directory as a SourceDirectory. Everything below is opened relative to its descriptor, and the kernel
// (openat2, RESOLVE_BENEATH) refuses whatever would leave it, links included; where the kernel lacks that call, links
// are refused altogether.
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <utility>

#include "common/error.h"
#include "worker/engine/storage/file_descriptor.h"
#include "worker/engine/storage/local_file.h"
#include "worker/engine/storage/source.h"

namespace slipway::engine {
namespace {

constexpr std::size_t kMaximumNameBytes = 4096;
constexpr std::size_t kMaximumEntries = 4'000'000;                       // in one directory
constexpr int kReadOnly = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;  // a pipe must not block the open

absl::Status CheckName(const std::string& name, const std::string& directory) {
  bool leaves =
      name.empty() || name.size() > kMaximumNameBytes || name.front() == '/' || name.find('\0') != std::string::npos;
  for (std::string_view rest = name; !leaves && !rest.empty();) {
    const std::size_t slash = std::min(rest.find('/'), rest.size());
    leaves = rest.substr(0, slash) == "..";
    rest.remove_prefix(std::min(slash + 1, rest.size()));
  }
  if (leaves) {
    return Error(Reason::kPathOutsideRoot, fmt::format("the name \"{}\" does not stay below its directory", name),
                 {.file = directory});
  }
  return absl::OkStatus();
}

// For kernels without openat2: one component at a time, following no link.
int OpenBelowByComponents(int directory, const std::string& name, int flags) {
  FileDescriptor holder;
  int current = directory;
  for (std::string_view rest = name;;) {
    const std::size_t slash = rest.find('/');
    if (slash == std::string_view::npos) {
      return ::openat(current, std::string(rest).c_str(), flags | O_NOFOLLOW);
    }
    const std::string component(rest.substr(0, slash));
    rest.remove_prefix(slash + 1);
    if (component.empty()) {
      continue;
    }
    FileDescriptor next(::openat(current, component.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!next.valid()) {
      return -1;
    }
    holder = std::move(next);
    current = holder.get();
  }
}

int OpenBelow(int directory, const std::string& name, int flags) {
  struct open_how how = {};
  how.flags = static_cast<std::uint64_t>(flags);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  const long opened = ::syscall(SYS_openat2, directory, name.c_str(), &how, sizeof(how));
  if (opened < 0 && (errno == ENOSYS || errno == EPERM)) {  // EPERM: a container's filter that does not know the call
    return OpenBelowByComponents(directory, name, flags);
  }
  return static_cast<int>(opened);
}

class LocalDirectory final : public SourceDirectory {
 public:
  LocalDirectory(FileDescriptor descriptor, std::string path)
      : descriptor_(std::move(descriptor)), path_(std::move(path)) {}

  [[nodiscard]] const std::string& path() const override { return path_; }
  [[nodiscard]] absl::StatusOr<std::vector<DirectoryEntry>> List() const override;
  [[nodiscard]] bool Exists(const std::string& name) const override { return OpenEntry(name, O_PATH).ok(); }
  [[nodiscard]] absl::StatusOr<std::unique_ptr<SourceFile>> Open(const std::string& name) const override {
    SLIPWAY_ASSIGN_OR_RETURN(FileDescriptor file, OpenEntry(name, kReadOnly));
    return MakeLocalFile(std::move(file), PathOf(name));
  }
  [[nodiscard]] absl::StatusOr<std::unique_ptr<SourceDirectory>> OpenDirectory(const std::string& name) const override {
    SLIPWAY_ASSIGN_OR_RETURN(FileDescriptor directory, OpenEntry(name, kReadOnly | O_DIRECTORY));
    return std::make_unique<LocalDirectory>(std::move(directory), PathOf(name));
  }

 private:
  [[nodiscard]] std::string PathOf(const std::string& name) const { return fmt::format("{}/{}", path_, name); }
  [[nodiscard]] absl::StatusOr<FileDescriptor> OpenEntry(const std::string& name, int flags) const;

  FileDescriptor descriptor_;
  std::string path_;
};

absl::StatusOr<FileDescriptor> LocalDirectory::OpenEntry(const std::string& name, int flags) const {
  SLIPWAY_RETURN_IF_ERROR(CheckName(name, path_));
  FileDescriptor opened(OpenBelow(descriptor_.get(), name, flags | O_CLOEXEC));
  if (opened.valid()) {
    return opened;
  }
  const int error_number = errno;
  if (error_number == EXDEV || error_number == ELOOP) {
    return Error(Reason::kPathOutsideRoot, "a link leads out of the checkpoint's directory", {.file = PathOf(name)});
  }
  if (error_number == ENOENT || error_number == ENOTDIR) {
    return Error(Reason::kCheckpointNotFound, "no such file or directory", {.file = PathOf(name)});
  }
  return ErrnoError(error_number, "openat2", PathOf(name), FileRole::kCheckpoint);
}

struct CloseDirectory {
  void operator()(DIR* stream) const { ::closedir(stream); }
};

absl::StatusOr<std::vector<DirectoryEntry>> LocalDirectory::List() const {
  // A descriptor of its own: the position of a directory stream is shared between duplicates.
  FileDescriptor listed(::openat(descriptor_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!listed.valid()) {
    return ErrnoError(errno, "openat", path_, FileRole::kCheckpoint);
  }
  const std::unique_ptr<DIR, CloseDirectory> stream(::fdopendir(listed.get()));
  if (stream == nullptr) {
    return ErrnoError(errno, "fdopendir", path_, FileRole::kCheckpoint);
  }
  const int directory = listed.Release();  // the stream closes it
  std::vector<DirectoryEntry> entries;
  for (errno = 0; const dirent* entry = ::readdir(stream.get()); errno = 0) {
    const std::string_view name = entry->d_name;
    if (name == "." || name == "..") {
      continue;
    }
    if (entries.size() == kMaximumEntries) {
      return Error(Reason::kLimitExceeded, "the directory has too many entries", {.file = path_});
    }
    bool is_directory = entry->d_type == DT_DIR;
    if (entry->d_type == DT_UNKNOWN || entry->d_type == DT_LNK) {
      struct stat status = {};
      is_directory = ::fstatat(directory, entry->d_name, &status, 0) == 0 && S_ISDIR(status.st_mode);
    }
    entries.push_back({.name = std::string(name), .is_directory = is_directory});
  }
  if (errno != 0) {
    return ErrnoError(errno, "readdir", path_, FileRole::kCheckpoint);
  }
  std::ranges::sort(entries, {}, &DirectoryEntry::name);
  return entries;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SourceDirectory>> OpenLocalDirectory(const std::string& path) {
  if (const std::size_t zero = path.find('\0'); zero != std::string::npos) {
    return Error(Reason::kPathOutsideRoot, "the path has a zero byte in it", {.file = path.substr(0, zero)});
  }
  FileDescriptor descriptor(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!descriptor.valid()) {
    if (errno == ENOENT || errno == ENOTDIR) {
      return Error(Reason::kCheckpointNotFound, "there is no such directory", {.file = path});
    }
    return ErrnoError(errno, "open", path, FileRole::kCheckpoint);
  }
  return std::make_unique<LocalDirectory>(std::move(descriptor), path);
}

}  // namespace slipway::engine
