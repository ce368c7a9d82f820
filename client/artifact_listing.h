// What a server says an artifact consists of, checked before anything is written.
#pragma once

#include <span>

#include "absl/status/status.h"
#include "slipway/v1/artifact.pb.h"

namespace slipway {

// PATH_OUTSIDE_ROOT for a path that would leave the output, LIMIT_EXCEEDED for too many files, ARTIFACT_CORRUPT for a
// file that is listed twice or has a size or digest that cannot be. Afterwards the sum of the sizes fits 63 bits.
absl::Status CheckListing(std::span<const v1::ArtifactFile> files);

}  // namespace slipway
