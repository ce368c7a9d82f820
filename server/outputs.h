// Where exports may read and publish, and what is removed of them. Paths are the coordinator's view of storage that it
// shares with the workers.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace slipway::server {

struct OutputRoots {
  std::string artifacts;                      // absolute; where exports without a place of their own are published
  std::vector<std::string> publish = {};      // further roots for ExportSpec.publish
  std::vector<std::string> checkpoints = {};  // roots of checkpoints; empty: anywhere
};

// OK where a checkpoint path, given in `field`, is absolute and below the roots for checkpoints, if there are any.
absl::Status CheckCheckpointPath(std::string_view text, std::string_view field, const OutputRoots& roots);

// ExportSpec.publish (a path or file:// URI) as an absolute path: below a root after links are resolved, without "..",
// its parent there. INVALID_ARGUMENT or PATH_OUTSIDE_ROOT otherwise.
absl::StatusOr<std::string> ResolvePublishPath(std::string_view publish, const OutputRoots& roots);

// Removes the staging directories of `output`: entries beside it named ".NAME.slipway-*". OK where there are none.
absl::Status RemoveStaging(const std::string& output);

// Removes a published artifact with everything in it, and staging directories beside it.
absl::Status RemoveArtifact(const std::string& path);

}  // namespace slipway::server
