// The second half of proving an artifact: that its bytes are those that the manifest has digests of.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "common/error.h"
#include "worker/engine/storage/source.h"
#include "worker/engine/write/manifest.h"

namespace slipway::engine {

using ArtifactFiles = std::map<std::string, std::unique_ptr<SourceFile>>;  // by path in the artifact

inline absl::Status Corrupt(std::string_view message, const Where& where) {
  return Error(Reason::kArtifactCorrupt, message, where);
}

// The readers' errors speak of checkpoints; here everything that cannot be read is a corrupt artifact.
inline absl::Status AsCorrupt(const absl::Status& status, const Where& where) {
  return AddWhere(Corrupt(std::string(status.message()), WhereOf(status)), where);
}

// Reads every file and every tensor of the manifest on `threads` threads and compares their digests; nothing where the
// manifest has none. `files` has every file of the manifest, as long as the manifest says. ARTIFACT_CORRUPT names what
// is not as it was written. `progress` gets bytes read, from any of the threads.
absl::Status VerifyBytes(const Manifest& manifest, const ArtifactFiles& files, int threads,
                         const std::function<void(std::int64_t)>& progress);

}  // namespace slipway::engine
