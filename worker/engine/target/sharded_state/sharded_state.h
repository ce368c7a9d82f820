// The directories that vLLM and SGLang load with `--load-format sharded_state`: each rank's file holds that rank's
// parameters under the engine's own names, fused and split as the engine splits them, so that loading is copying. Such
// a directory belongs to one version of one engine and to one number of ranks; families.h says which versions, and a
// note beside the files (note.h) says which numbers.
#pragma once

#include "absl/status/statusor.h"
#include "worker/engine/target/rank_layout.h"

namespace slipway::engine {

// Pure. OPTION_UNSUPPORTED for ranks that the model cannot be split over or the engine does not have, and for quantized
// weights; ARCHITECTURE_UNSUPPORTED; CONFIGURATION_INVALID where config.json lacks a size; TENSOR_MISSING,
// TENSOR_SHAPE_MISMATCH and TENSOR_UNKNOWN where the tensors are not those of config.json; LIMIT_EXCEEDED. Each says
// what would work, and names the tensor where there is one.
absl::StatusOr<RankLayout> VllmShardedLayout(const HuggingFaceModel& model, const RankRequest& request);
absl::StatusOr<RankLayout> SglangShardedLayout(const HuggingFaceModel& model, const RankRequest& request);

}  // namespace slipway::engine
