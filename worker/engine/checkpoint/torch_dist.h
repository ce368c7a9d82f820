// Megatron-Core's distributed format "torch_dist": metadata.json, the index ".metadata", data files "__R_I.distcp", and
// the common state in common.pt (to 0.18) or in the index's entry "common_state/shard_0_1" (from 0.19).
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/checkpoint.h"

namespace slipway::engine {

// Reads the iteration directory `directory`, which lies in `root`: its metadata only. `iteration` and `release` are
// what the tracker or the directory's name said. Errors as of ReadCheckpoint; each names file, and tensor where there
// is one.
absl::StatusOr<std::shared_ptr<const Checkpoint>> ReadTorchDistCheckpoint(
    std::shared_ptr<const SourceDirectory> root, std::shared_ptr<const SourceDirectory> directory,
    std::int64_t iteration, bool release);

}  // namespace slipway::engine
