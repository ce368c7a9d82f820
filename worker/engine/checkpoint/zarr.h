// Megatron-Core's distributed format "zarr" (to 0.10): a directory a tensor, named by it, as zarr version 2 lays it out
// (".zarray" and a file for each chunk of a grid); objects as DIRECTORY/shard_*.pt; the common state in common.pt.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/checkpoint/iteration.h"

namespace slipway::engine {

// Reads the metadata of the iteration that was found: names, .zarray files, sizes of chunk files. Errors as of
// ReadCheckpoint. A chunk without a file, which zarr would fill with a default, is CHECKPOINT_CORRUPT: Megatron writes
// all of them.
absl::StatusOr<std::shared_ptr<const Checkpoint>> ReadZarrCheckpoint(IterationDirectory found);

}  // namespace slipway::engine
