// What a checkpoint that ModelOpt calibrated says of its modules: formats, ranges and scales, by the names of Hugging
// Face's modules. Quantizers of Megatron's modules become those of Hugging Face's by the rules of the weights:
// linear_qkv's one range is that of q_proj, k_proj and v_proj, its ranges of rows go with the rows.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/canonical.h"
#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/model/model.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/quantize/ranges.h"

namespace slipway::engine {

// Whether the checkpoint has quantizers at all.
bool IsCalibrated(const Checkpoint& checkpoint);

// `tensors` are the checkpoint's weights (Canonicalize). Modules without quantizers are not in the result; those whose
// quantizer is disabled have the format "none". Where a module's own state cannot be read the model's rules count,
// where those say nothing either its format stays empty. A range of an input that is 0 or not finite is left out. Reads
// small tensors: at most 2^20 values each, 1 GiB of input scales. Errors as CanonicalizeQuantizers,
// ReadModelOptState, ReadStoredValues and AmaxesOf, and CHECKPOINT_CORRUPT for ranges of weights and scales that are
// not finite or below 0, CHECKPOINT_UNSUPPORTED for quantizers of weights that the target stacks or permutes; each
// names the tensor.
absl::StatusOr<Ranges> RangesOfCheckpoint(const Checkpoint& checkpoint,
                                          const std::map<std::string, CanonicalTensor>& tensors, const Model& model);

// OPTION_UNSUPPORTED, naming the first, where weights were divided by scales of their inputs' channels (AWQ,
// SmoothQuant): on their own they are not the trained ones.
absl::Status CheckNotScaled(const Checkpoint& checkpoint);

// Adds to plan.unused what of the checkpoint's quantizers no tensor of the plan takes anything from.
void AddUnusedQuantizers(ExportPlan& plan);

}  // namespace slipway::engine
