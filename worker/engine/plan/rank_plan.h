// From the plan of a Hugging Face export to that of a target with ranks: each rank's tensors are slices of Hugging
// Face's, so they are read from where those are.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/plan/shard_layout.h"
#include "worker/engine/target/rank_layout.h"

namespace slipway::engine {

// What a target sees of a plan whose tensors and texts are Hugging Face's and are not quantized. INTERNAL where there
// is no config.json.
absl::StatusOr<HuggingFaceModel> HuggingFaceModelOf(const ExportPlan& plan);

// Replaces the tensors and the texts of such a plan by those of `layout`; returns the files that the tensors are laid
// out in, in their order. Proves that
//   1. every part lies in its tensor, and a tensor's parts are of one dtype and together its shape,
//   2. every element of every Hugging Face tensor is in at least one rank, or the tensor is left out with a reason,
//   3. names are once in a file.
// Errors: INTERNAL where the layout contradicts the model; TENSOR_MISSING for an element that no rank has;
// CHECKPOINT_UNSUPPORTED for what cannot be cut: FP8 codes under several scales, adapters, permuted tensors.
absl::StatusOr<std::vector<NamedFile>> CutIntoRanks(const RankLayout& layout, ExportPlan& plan);

}  // namespace slipway::engine
