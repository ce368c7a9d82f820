// The second pass over a plan, independent of how it was made: from the family's table, the configuration and the
// checkpoint's stored tensors alone.
#pragma once

#include "absl/status/status.h"
#include "worker/engine/model/model.h"
#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

// Proves, of a plan that nothing is quantized in yet, that
//   1. every tensor that the target needs is produced once, with its name, shape and size, and nothing else is;
//   2. every element of every stored tensor is used exactly once, or lies in a stated UnusedRegion;
//   3. regions lie inside their tensors, have the dtype that the transform starts from, and as many elements as the
//      output and as the view whose axes are permuted.
// Errors: TENSOR_MISSING, TENSOR_UNKNOWN, TENSOR_DUPLICATED, TENSOR_SHAPE_MISMATCH; each names the tensor. Time and
// memory are proportional to the number of regions.
absl::Status CheckTensors(const ExportPlan& plan, const Model& model);

// The same for a plan that keeps names and shapes (of a Hugging Face directory): 1. is that every stored tensor is
// produced under its own name with its shape, except scales that another one consumes, and nothing else is.
absl::Status CheckIdentityTensors(const ExportPlan& plan);

// Proves of the finished plan that names are produced once in each of its directories, that files lie in theirs and are
// written once, that quantized weights have their codes and the sizes that their formats give them, and that shards are
// files without holes whose headers say what the plan says. INTERNAL, TENSOR_DUPLICATED, TENSOR_MISSING.
absl::Status CheckFiles(const ExportPlan& plan);

// All of it for a plan of an adapter alone: 1. is that a target of the model that has one of lora_A and lora_B has
// both, of the target's shape and of one rank, and that nothing else is produced. A region of A may be used by several
// targets.
absl::Status CheckAdapterPlan(const ExportPlan& plan, const Model& model);

}  // namespace slipway::engine
