#include "worker/engine/plan/compressed_weights.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/checked_math.h"
#include "common/error.h"
#include "worker/engine/plan/stored_values.h"

namespace slipway::engine {
namespace {

// Codes of four bits, two a byte, that mtq.compress left in place of a weight.
absl::Status RefusePacked(const Checkpoint& checkpoint, const std::map<std::string, CanonicalTensor>& tensors) {
  SLIPWAY_ASSIGN_OR_RETURN(const auto quantizers, CanonicalizeQuantizers(checkpoint));
  for (const auto& [name, tensor] : tensors) {
    if (tensor.dtype == DType::kU8 && quantizers.contains(tensor.name + "_quantizer._scale")) {
      return Error(
          Reason::kCheckpointUnsupported,
          "is compressed to four bits (mtq.compress), which is not read yet: export the checkpoint from before "
          "mtq.compress",
          {.tensor = tensor.name});
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CompressedWeights> CompressedWeights::Of(const Checkpoint& checkpoint,
                                                        const std::map<std::string, CanonicalTensor>& tensors) {
  CompressedWeights compressed;
  if (std::ranges::any_of(tensors, [](const auto& entry) { return entry.second.dtype == DType::kU8; })) {
    SLIPWAY_RETURN_IF_ERROR(RefusePacked(checkpoint, tensors));
  }
  if (std::ranges::any_of(tensors, [](const auto& entry) { return entry.second.dtype == DType::kF8E4M3; })) {
    SLIPWAY_ASSIGN_OR_RETURN(compressed.quantizers_, CanonicalizeQuantizers(checkpoint));
  }
  return compressed;
}

absl::StatusOr<SourceRegion> CompressedWeights::ScaleOf(const CanonicalTensor& weight,
                                                        const Checkpoint& checkpoint) const {
  const auto found = quantizers_.find(weight.name + "_quantizer._scale");
  if (found == quantizers_.end()) {
    return Error(Reason::kCheckpointUnsupported,
                 "is stored as F8_E4M3, without the scale that ModelOpt keeps beside a compressed weight",
                 {.tensor = weight.name});
  }
  const CanonicalTensor& scale = found->second;
  if (CheckedVolume(scale.shape) != 1 || (scale.dtype != DType::kF32 && scale.dtype != DType::kBF16)) {
    return Error(
        Reason::kCheckpointUnsupported,
        fmt::format("is compressed under scales {} [{}]; those are read that have one, F32 or BF16. Export the "
                    "checkpoint from before mtq.compress",
                    InfoOf(scale.dtype).safetensors_name, fmt::join(scale.shape, ", ")),
        {.tensor = weight.name});
  }
  return WholeOf(scale, checkpoint).front();
}

}  // namespace slipway::engine
