// From canonical tensors and a family's rules to output tensors: the first pass. What it makes is not trusted:
// plan_checker.h proves it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/canonical.h"
#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/model/model.h"
#include "worker/engine/plan/adapter.h"
#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

struct BuiltTensors {
  std::vector<OutputTensor> tensors;  // in the order of writing; shard and offset not yet set
  std::vector<UnusedRegion> unused;
};

// TENSOR_MISSING, TENSOR_UNKNOWN, TENSOR_SHAPE_MISMATCH, CHECKPOINT_UNSUPPORTED (weights that are not floating-point
// numbers); each names the canonical tensor and says how many there are of the kind. `dtype` is the output's. With an
// `adapter` (of `checkpoint` too) the outputs of its bases have updates; TENSOR_UNKNOWN for bases that the model has
// not, OPTION_UNSUPPORTED for weights to which an adapter cannot be added.
absl::StatusOr<BuiltTensors> BuildTensors(const Checkpoint& checkpoint,
                                          const std::map<std::string, CanonicalTensor>& tensors, const Model& model,
                                          DType dtype, const Adapter* adapter = nullptr);

}  // namespace slipway::engine
