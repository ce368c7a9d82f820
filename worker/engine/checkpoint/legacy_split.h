// Tensors of a legacy rank that are several weights in one, taken apart: each part is shared between ranks for itself.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "worker/engine/checkpoint/legacy_rank.h"

namespace slipway::engine {

// Replaces in `model`, which is one of the file `file`'s:
//   ...mixer.in_proj.weight and conv1d.*           by their components, as on disk (".z", ".x", ...)
//   ...self_attention.in_proj.weight and conv1d.*  likewise (".query", ".key", ...)
//   ...linear_qkv_down_proj.weight                 by linear_q_down_proj.weight and linear_kv_down_proj.weight
//   ...mlp.experts.weight1 and weight2             by the experts' linear_fc1.weight and linear_fc2.weight
// All by views of the same storage; where one tensor rank holds everything, the first two stay.
// TENSOR_SHAPE_MISMATCH where the sizes of a layer's tensors do not explain one of these; TENSOR_MISSING where the
// tensor that would is not there.
absl::Status SplitRankModel(const std::string& file, std::int64_t tensor_ranks, std::int64_t expert_ranks,
                            RankModel& model);

}  // namespace slipway::engine
