// The target `tensorrt-llm`: config.json and rank0.safetensors, rank1.safetensors, ..., from which trtllm-build makes
// engines (TensorRT-LLM 0.11 to 1.2). Rank p * tensor_parallel + t is the t-th of stage p.
#pragma once

#include "absl/status/statusor.h"
#include "worker/engine/target/rank_layout.h"

namespace slipway::engine {

// Pure. `request.version` is TensorRT-LLM's ("0.17", "1.0.0"); empty: what all of 0.11 to 1.2 load. expert_parallel
// divides tensor_parallel: groups of experts inside each stage. OPTION_UNSUPPORTED, with what would work, for families
// that its engines lack and for sizes that do not divide; CONFIGURATION_INVALID, TENSOR_MISSING, TENSOR_SHAPE_MISMATCH
// where config.json and the tensors do not belong together; LIMIT_EXCEEDED.
absl::StatusOr<RankLayout> TensorRtLlmLayout(const HuggingFaceModel& source, const RankRequest& request);

}  // namespace slipway::engine
