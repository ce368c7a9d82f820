#include "client/output.h"

#include <cerrno>
#include <filesystem>
#include <system_error>

#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "common/error.h"

namespace slipway {

namespace fs = std::filesystem;

absl::StatusOr<OutputPlace> OutputPlace::Prepare(const std::string& output, bool overwrite) {
  std::error_code error;
  fs::path path = output.empty() ? fs::path() : fs::absolute(output, error).lexically_normal();
  if (!path.has_filename()) {  // "dir/" is "dir"
    path = path.parent_path();
  }
  if (error || path.empty() || path == path.root_path()) {
    return Error(Reason::kInvalidArgument, "OUTPUT must name a directory", {.file = output});
  }
  struct stat status {};
  const bool exists = lstat(path.c_str(), &status) == 0;
  if (exists && !overwrite) {
    return Error(Reason::kOutputExists, "the output exists", {.file = path.string()});
  }
  if (exists && !S_ISDIR(status.st_mode)) {
    return Error(Reason::kOutputExists, "the output exists and is not a directory", {.file = path.string()});
  }
  if (exists && !fs::is_empty(path, error) && !fs::exists(path / "manifest.json", error)) {
    return Error(Reason::kOutputExists,
                 "the output exists and is no artifact of Slipway, which --overwrite replaces: remove it, or choose "
                 "another output",
                 {.file = path.string()});
  }
  OutputPlace place;
  place.path_ = path.string();
  std::vector<fs::path> missing;
  for (fs::path parent = path.parent_path(); !fs::exists(parent, error); parent = parent.parent_path()) {
    missing.push_back(parent);
  }
  for (; !missing.empty(); missing.pop_back()) {
    if (mkdir(missing.back().c_str(), 0777) == 0) {
      place.made_.push_back(missing.back().string());
    } else if (errno != EEXIST) {
      return ErrnoError(errno, "mkdir", missing.back().string(), FileRole::kOutput);
    }
  }
  if (access(path.parent_path().c_str(), W_OK | X_OK) != 0) {
    return ErrnoError(errno, "access", path.parent_path().string(), FileRole::kOutput);
  }
  return place;
}

OutputPlace::~OutputPlace() {
  for (; !made_.empty(); made_.pop_back()) {
    rmdir(made_.back().c_str());  // fails, as it should, where there is something in it
  }
}

std::string OutputPlace::parent() const { return fs::path(path_).parent_path().string(); }

}  // namespace slipway
