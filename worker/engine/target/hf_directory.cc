#include "worker/engine/target/hf_directory.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include <sys/stat.h>

#include <fmt/format.h>

#include "common/error.h"
#include "worker/engine/storage/source.h"

namespace slipway::engine {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaximumFiles = 10'000;

absl::StatusOr<FileIdentity> IdentityOf(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) {
    return ErrnoError(errno, "stat", path, FileRole::kCheckpoint);
  }
  if (!S_ISREG(status.st_mode)) {
    return Error(Reason::kCheckpointUnreadable, "is not a regular file", {.file = path});
  }
  constexpr std::int64_t kNanoseconds = 1'000'000'000;
  return FileIdentity{.device = status.st_dev,
                      .inode = status.st_ino,
                      .size = status.st_size,
                      .modified_ns = status.st_mtim.tv_sec * kNanoseconds + status.st_mtim.tv_nsec};
}

}  // namespace

absl::StatusOr<HfDirectory> HfDirectory::Open(const std::string& path) {
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  if (error) {
    return ErrnoError(error.value(), "open", path, FileRole::kCheckpoint);
  }
  if (!fs::is_directory(real, error)) {
    return Error(Reason::kCheckpointNotFound, "is not a directory", {.file = path});
  }
  const bool is_snapshot = real.parent_path().filename() == "snapshots";
  const fs::path root = is_snapshot ? real.parent_path().parent_path() : real;
  return HfDirectory(real.string(), root.string());
}

bool HfDirectory::Has(const std::string& name) const {
  std::error_code error;
  return fs::exists(fs::path(path_) / name, error);
}

absl::StatusOr<std::vector<std::string>> HfDirectory::Files() const {
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator at(path_, error), end; !error && at != end; at.increment(error)) {
    std::error_code not_a_file;
    if (at->is_regular_file(not_a_file)) {  // follows links
      names.push_back(at->path().filename().string());
    }
    if (names.size() > kMaximumFiles) {
      return Error(Reason::kLimitExceeded, fmt::format("has more than {} files", kMaximumFiles), {.file = path_});
    }
  }
  if (error) {
    return ErrnoError(error.value(), "readdir", path_, FileRole::kCheckpoint);
  }
  std::ranges::sort(names);
  return names;
}

absl::StatusOr<std::string> HfDirectory::Resolve(const std::string& name) const {
  std::error_code error;
  const fs::path real = fs::canonical(fs::path(path_) / name, error);
  if (error) {
    return ErrnoError(error.value(), "open", path_ + "/" + name, FileRole::kCheckpoint);
  }
  const auto [below, rest] = std::mismatch(root_.begin(), root_.end(), real.native().begin(), real.native().end());
  if (below != root_.end() || rest == real.native().end() || *rest != '/') {
    return Error(Reason::kPathOutsideRoot, "is a link that leads out of its directory", {.file = path_ + "/" + name});
  }
  return real.string();
}

absl::StatusOr<std::string> HfDirectory::Read(const std::string& name, std::int64_t maximum) const {
  SLIPWAY_ASSIGN_OR_RETURN(const fs::path real, Resolve(name));
  SLIPWAY_ASSIGN_OR_RETURN(const auto directory, OpenLocalDirectory(real.parent_path().string()));
  return directory->ReadSmallFile(real.filename().string(), maximum);
}

absl::StatusOr<SidecarFile> HfDirectory::Sidecar(const std::string& name) const {
  SidecarFile sidecar{.path = name, .source = {}, .identity = {}};
  SLIPWAY_ASSIGN_OR_RETURN(sidecar.source, Resolve(name));
  SLIPWAY_ASSIGN_OR_RETURN(sidecar.identity, IdentityOf(sidecar.source));
  return sidecar;
}

}  // namespace slipway::engine
