// Proves an artifact: every file of its manifest is there with its size and digest, nothing else is there, every tensor
// of the index is in its file with the manifest's dtype, shape and checksum.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"

namespace slipway::engine {

struct VerifyReport {
  std::int64_t files = 0;
  std::int64_t tensors = 0;
  std::int64_t bytes = 0;
  std::string plan_hash;
  std::string digest_algorithm;
};

// ARTIFACT_CORRUPT names the file and tensor; NOT_FOUND where there is no manifest.json. `progress` gets bytes read.
absl::StatusOr<VerifyReport> VerifyArtifact(const std::string& directory, int threads,
                                            const std::function<void(std::int64_t)>& progress);

}  // namespace slipway::engine
