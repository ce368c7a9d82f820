// Proves an artifact: every file of its manifest is there with its size and digest, nothing else is there, every tensor
// of the index is in its file with the manifest's dtype, shape and checksum. Of several targets: each of its
// directories is proven so, and the manifest of them all says what theirs say.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace slipway::engine {

// What is proven of one of several targets' directories.
struct VerifiedDirectory {
  std::string target;
  std::string path;  // relative to the artifact
  std::int64_t files = 0;
  std::int64_t tensors = 0;
  std::int64_t bytes = 0;
  std::string plan_hash;
};

struct VerifyReport {
  std::int64_t files = 0;
  std::int64_t tensors = 0;
  std::int64_t bytes = 0;
  std::string plan_hash;
  std::string digest_algorithm;
  std::vector<VerifiedDirectory> directories = {};  // of several targets; the numbers above are of them all
};

// ARTIFACT_CORRUPT names the file and tensor; NOT_FOUND where there is no manifest.json. `progress` gets bytes read.
absl::StatusOr<VerifyReport> VerifyArtifact(const std::string& directory, int threads,
                                            const std::function<void(std::int64_t)>& progress);

}  // namespace slipway::engine
