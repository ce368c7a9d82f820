// A Hugging Face directory as a SourceDirectory.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/engine/storage/source.h"

namespace slipway::engine {

// As OpenLocalDirectory, but a snapshot of the hub's cache (.../<repository>/snapshots/<revision>), whose files are
// links to the repository's blobs, may link to anything below its repository.
absl::StatusOr<std::unique_ptr<SourceDirectory>> OpenHuggingFaceDirectory(const std::string& path);

}  // namespace slipway::engine
