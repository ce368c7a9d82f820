// Proving a directory with the engine, with progress.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "client/console.h"
#include "worker/engine/run/artifact_comparison.h"
#include "worker/engine/write/verify.h"

namespace slipway {

// engine::VerifyArtifact over all processors, with a progress line on `err`.
absl::StatusOr<engine::VerifyReport> VerifyWithProgress(const std::string& directory, const Console& console);

// engine::CompareWithCheckpoint in the same way.
absl::StatusOr<engine::ComparisonReport> CompareWithProgress(const std::string& directory,
                                                             const std::string& checkpoint, const Console& console);

}  // namespace slipway
