// The plan of a Hugging Face directory: every tensor under its own name, in the order of the source's files.
#pragma once

#include "absl/status/status.h"
#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

// Fills plan.tensors (shard and offset not yet set), architecture, model_type, texts, sidecars and warnings from
// plan.checkpoint (of format kHuggingFace) and plan.options.
//
// Without options.dtype all is copied as it is, quantized or not. With it floating-point tensors are converted, and FP8
// weights in blocks ("X" F8_E4M3 with "X_scale_inv", config.json's quant_method fp8 with weight_block_size) become
// plain ones; config.json says so.
//
// Errors: OPTION_UNSUPPORTED (--dtype for another quantization), INVALID_ARGUMENT (an option that does not go with a
// Hugging Face directory), CHECKPOINT_UNSUPPORTED (a dtype that cannot be converted), TENSOR_MISSING (a scale),
// TENSOR_UNKNOWN (a scale of nothing), TENSOR_SHAPE_MISMATCH (a scale of another shape), CONFIGURATION_INVALID; each
// names the tensor where there is one. Errors of HfDirectory for the files.
absl::Status BuildIdentity(ExportPlan& plan);

}  // namespace slipway::engine
