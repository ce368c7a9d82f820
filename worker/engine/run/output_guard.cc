#include "worker/engine/run/output_guard.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include <fmt/format.h>

#include "common/error.h"
#include "worker/engine/write/manifest.h"

namespace slipway::engine {
namespace {

namespace fs = std::filesystem;

// Absolute and without links, as far as the path exists; as it is where the system does not say.
fs::path Resolved(const std::string& path) {
  std::error_code error;
  const fs::path resolved = fs::weakly_canonical(fs::absolute(path), error);
  return error ? fs::path(path).lexically_normal() : resolved;
}

bool IsOrContains(const fs::path& outer, const fs::path& inner) {
  return std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first == outer.end();
}

}  // namespace

absl::Status CheckApartFromSources(const ExportPlan& plan, const std::string& output) {
  const fs::path resolved = Resolved(output);
  const ExportOptions& options = plan.options;
  const std::string& read = plan.checkpoint == nullptr ? options.checkpoint : plan.checkpoint->path;
  for (const std::string& source : {options.checkpoint, read, options.hf_config, options.adapter, options.ranges}) {
    if (!source.empty() && IsOrContains(resolved, Resolved(source))) {
      return Error(Reason::kInvalidArgument,
                   fmt::format("the output would take the place of {}, which is read: choose another output", source),
                   {.file = output});
    }
  }
  return absl::OkStatus();
}

absl::Status CheckReplaceable(const std::string& output, FileSystem& files) {
  const absl::StatusOr<std::vector<DirectoryEntry>> entries = files.List(output);
  if (entries.ok() && entries->empty()) {
    return absl::OkStatus();
  }
  const absl::StatusOr<std::string> manifest =
      files.ReadSmallFile(fmt::format("{}/{}", output, kManifestFile), kMaximumManifest);
  return manifest.ok() && ParseManifest(*manifest).ok()
             ? absl::OkStatus()
             : Error(
                   Reason::kOutputExists,
                   "the output exists and is no artifact of Slipway, which --overwrite replaces: remove it, or choose "
                   "another output",
                   {.file = output});
}

}  // namespace slipway::engine
