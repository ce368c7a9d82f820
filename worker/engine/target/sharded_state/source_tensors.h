// Hugging Face's tensors of a model as ranks take parts of them: each must be as config.json says, and in the end none
// may be left.
#pragma once

#include <string>
#include <unordered_set>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/engine/target/rank_layout.h"
#include "worker/engine/target/sharded_state/families.h"

namespace slipway::engine::sharded_state {

// Borrows both. Not for several threads.
class SourceTensors {
 public:
  SourceTensors(const HuggingFaceModel& model, const Engine& engine) : model_(model), engine_(engine) {}

  // Takes a part of that tensor; its dtype. TENSOR_MISSING, TENSOR_SHAPE_MISMATCH, OPTION_UNSUPPORTED for quantized
  // ones.
  absl::StatusOr<DType> Take(const std::string& name, const Shape& shape);

  // TENSOR_UNKNOWN for a tensor of which nothing was taken, unless it is one that engines compute: those go to
  // `left_out`.
  absl::Status CheckRest(std::vector<LeftOut>& left_out) const;

 private:
  const HuggingFaceModel& model_;
  const Engine& engine_;
  std::unordered_set<const HuggingFaceTensor*> taken_;
};

}  // namespace slipway::engine::sharded_state
