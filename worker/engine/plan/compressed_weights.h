// Weights that ModelOpt compressed (mtq.compress): FP8 codes under one scale, which is beside them as
// "<module>.weight_quantizer._scale".
#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/canonical.h"
#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/plan/source_region.h"

namespace slipway::engine {

class CompressedWeights {
 public:
  // Of a checkpoint whose weights are `tensors`; of none where no weight is FP8. Errors as CanonicalizeQuantizers.
  static absl::StatusOr<CompressedWeights> Of(const Checkpoint& checkpoint,
                                              const std::map<std::string, CanonicalTensor>& tensors);

  // The scale of `weight`, one value of F32 or BF16. CHECKPOINT_UNSUPPORTED, naming the weight, where it has none, or
  // several.
  [[nodiscard]] absl::StatusOr<SourceRegion> ScaleOf(const CanonicalTensor& weight, const Checkpoint& checkpoint) const;

 private:
  std::map<std::string, CanonicalTensor> quantizers_;
};

}  // namespace slipway::engine
