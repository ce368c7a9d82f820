// Megatron's legacy "torch" format: one torch.save file a model-parallel rank,
// mp_rank_TT[_PPP][_EEE]/model_optim_rng.pt. The ranks' tensors come out as pieces of global tensors under the names
// that torch_dist gives them, layers and experts numbered over the whole model, so that what follows need not know
// which format it reads. Format: Megatron-LM, megatron/training/checkpointing.py (paths, dictionary, fix-ups of
// checkpoint_version).
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/checkpoint.h"

namespace slipway::engine {

// Reads the iteration directory `directory` (found to hold "mp_rank_*"), which lies in `root`. Reads of each rank's
// file only the archive's directory and its pickle; optimizer state is never read. `iteration` and `release` are what
// the tracker or the directory's name said.
// Errors: CHECKPOINT_CORRUPT (a rank or layer is missing, archive damaged), TENSOR_SHAPE_MISMATCH (ranks disagree),
// CHECKPOINT_UNSUPPORTED (ranks that wrote the same file), PICKLE_FORBIDDEN_GLOBAL, LIMIT_EXCEEDED; each names the
// file, and the tensor where there is one.
absl::StatusOr<std::shared_ptr<const Checkpoint>> ReadLegacyCheckpoint(std::shared_ptr<const SourceDirectory> root,
                                                                       std::shared_ptr<const SourceDirectory> directory,
                                                                       std::int64_t iteration, bool release);

}  // namespace slipway::engine
