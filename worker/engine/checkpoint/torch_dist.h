// Checkpoints of torch.distributed.checkpoint: the index ".metadata" and data files "__R_I.distcp". Two layouts share
// them, and differ in what surrounds the tensors:
//
//   torch_dist    Megatron-Core's: metadata.json; the common state in common.pt (to 0.18) or in the index's entry
//                 "common_state/shard_0_1" (from 0.19), a list of one dictionary
//   plain         no metadata.json; the whole state dictionary, flattened: weights under "model.", and "args",
//                 "iteration"... each an entry. "model.module.": Megatron-FSDP (fsdp_dtensor); else torch_dcp.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/checkpoint/iteration.h"

namespace slipway::engine {

// Reads the metadata of the iteration that was found. Errors as of ReadCheckpoint; each names file, and tensor where
// there is one. CHECKPOINT_UNSUPPORTED for torch_dcp of a run with tensor or pipeline parallelism: its ranks' tensors
// have the same names there, so what is stored is not the whole model.
absl::StatusOr<std::shared_ptr<const Checkpoint>> ReadTorchDistCheckpoint(IterationDirectory found);
absl::StatusOr<std::shared_ptr<const Checkpoint>> ReadPlainDistCheckpoint(IterationDirectory found);

}  // namespace slipway::engine
