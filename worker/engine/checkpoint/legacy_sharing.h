// How the tensor-parallel ranks of a legacy checkpoint share one tensor.
#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/legacy_assembly.h"
#include "worker/engine/checkpoint/legacy_rank.h"

namespace slipway::engine {

// Decides for the tensor `name` of `model`, one of rank's, which `tensor_ranks` ranks hold parts of (for experts,
// expert tensor parallel ranks). `arguments` are the training run's. TENSOR_UNKNOWN for a name whose sharing is not
// known, where there are ranks to share; TENSOR_SHAPE_MISMATCH for an MLP whose linears do not go together;
// CHECKPOINT_UNSUPPORTED for attention weights of an old order that the arguments do not explain.
absl::StatusOr<Assembly> DecideAssembly(const std::string& name, const LegacyRankFile& rank, const RankModel& model,
                                        std::int64_t tensor_ranks, const nlohmann::json& arguments);

}  // namespace slipway::engine
