#include "server/outputs.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include <fmt/format.h>

#include "common/error.h"

namespace slipway::server {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFileScheme = "file://";
constexpr std::size_t kMaximumPathBytes = 4096;

// Purely by name: a leading "file://" goes; the rest must be absolute, without "..", NUL and excess.
absl::StatusOr<fs::path> ParsePath(std::string_view text, std::string_view what) {
  std::string_view path = text;
  if (path.starts_with(kFileScheme)) {
    path.remove_prefix(kFileScheme.size());
  }
  if (path.empty() || path.front() != '/' || path.size() > kMaximumPathBytes ||
      path.find('\0') != std::string_view::npos) {
    return Error(Reason::kInvalidArgument, fmt::format("{} must be an absolute path or a file:// URI.", what));
  }
  const fs::path parsed{std::string(path)};
  if (std::ranges::find(parsed, fs::path("..")) != parsed.end()) {
    return Error(Reason::kPathOutsideRoot, fmt::format("{} must not contain '..'.", what),
                 Where{.file = std::string(path)});
  }
  return parsed;
}

// Both resolved: equal, or `path` below `root`.
bool IsBelow(const fs::path& path, const fs::path& root) {
  const auto [in_path, in_root] = std::ranges::mismatch(path, root);
  return in_root == root.end() || (*in_root == "" && std::next(in_root) == root.end());
}

bool IsBelowAny(const fs::path& path, const std::vector<std::string>& roots) {
  std::error_code error;
  const fs::path resolved = fs::weakly_canonical(path, error);
  if (error) {
    return false;
  }
  return std::ranges::any_of(roots, [&](const std::string& root) {
    std::error_code root_error;
    const fs::path resolved_root = fs::weakly_canonical(root, root_error);
    return !root_error && IsBelow(resolved, resolved_root);
  });
}

absl::Status RemoveAll(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  return error ? ErrnoError(error.value(), "remove", path.string(), FileRole::kOutput) : absl::OkStatus();
}

}  // namespace

absl::Status CheckCheckpointPath(std::string_view text, std::string_view field, const OutputRoots& roots) {
  SLIPWAY_ASSIGN_OR_RETURN(const fs::path path, ParsePath(text, field));
  if (!roots.checkpoints.empty() && !IsBelowAny(path, roots.checkpoints)) {
    return Error(Reason::kPathOutsideRoot, fmt::format("{} is below none of the server's checkpoint roots.", field),
                 Where{.file = path.string()});
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ResolvePublishPath(std::string_view publish, const OutputRoots& roots) {
  SLIPWAY_ASSIGN_OR_RETURN(fs::path path, ParsePath(publish, "spec.publish"));
  path = path.lexically_normal();
  if (path.filename().empty()) {
    path = path.parent_path();
  }
  const Where where{.file = path.string()};
  if (path.filename().empty() || path.filename() == "/") {
    return Error(Reason::kInvalidArgument, "spec.publish must name a directory.", where);
  }
  std::vector<std::string> allowed = roots.publish;
  allowed.push_back(roots.artifacts);
  // The parent decides: the artifact itself is renamed into place and never followed.
  if (!IsBelowAny(path.parent_path(), allowed)) {
    return Error(Reason::kPathOutsideRoot, "spec.publish is below none of the server's publish roots.", where);
  }
  std::error_code error;
  if (!fs::is_directory(path.parent_path(), error)) {
    return Error(Reason::kInvalidArgument, "spec.publish names a directory whose parent does not exist.", where);
  }
  return path.string();
}

absl::Status RemoveStaging(const std::string& output) {
  const fs::path path(output);
  const std::string prefix = fmt::format(".{}.slipway-", path.filename().string());
  std::error_code error;
  fs::directory_iterator entry(path.parent_path(), error);
  if (error) {
    return error == std::errc::no_such_file_or_directory
               ? absl::OkStatus()
               : ErrnoError(error.value(), "list", path.parent_path().string(), FileRole::kOutput);
  }
  absl::Status result;
  for (; entry != fs::directory_iterator(); entry.increment(error)) {
    if (entry->path().filename().string().starts_with(prefix)) {
      result.Update(RemoveAll(entry->path()));
    }
    if (error) {
      break;
    }
  }
  return result;
}

absl::Status RemoveArtifact(const std::string& path) {
  SLIPWAY_RETURN_IF_ERROR(RemoveAll(path));
  return RemoveStaging(path);
}

}  // namespace slipway::server
