#include "worker/engine/plan/compressed_weights.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/checked_math.h"
#include "common/error.h"
#include "worker/engine/plan/quantizer_rows.h"
#include "worker/engine/plan/stored_values.h"

namespace slipway::engine {
namespace {

constexpr const char* kScale = "_scale";
constexpr const char* kDoubleScale = "_double_scale";

std::string NameOf(const CanonicalTensor& weight, const char* buffer) {
  return fmt::format("{}_quantizer.{}", weight.name, buffer);
}

bool IsOneOf(DType dtype, std::initializer_list<DType> dtypes) {
  return std::ranges::find(dtypes, dtype) != dtypes.end();
}

absl::Status RefuseScales(const CanonicalTensor& weight, const CanonicalTensor& scale) {
  return Error(Reason::kCheckpointUnsupported,
               fmt::format("is compressed under scales {} [{}]; those are read that have one, or one a row, F32 or "
                           "BF16. Export the checkpoint from before mtq.compress",
                           InfoOf(scale.dtype).safetensors_name, fmt::join(scale.shape, ", ")),
               {.tensor = weight.name});
}

}  // namespace

absl::StatusOr<float> ReadDoubleScale(const CanonicalTensor& scale, const Checkpoint& checkpoint) {
  SLIPWAY_ASSIGN_OR_RETURN(const std::vector<float> values, ReadStoredValues(scale, checkpoint));
  if (values.size() != 1 || !std::isnormal(values[0]) || values[0] < 0 || !std::isfinite(values[0] * kNvfp4Range)) {
    return Error(Reason::kCheckpointCorrupt, "is not one number above 0 that a weight can be scaled by",
                 {.tensor = scale.name});
  }
  return values[0];
}

bool CompressedWeights::IsCompressed(const CanonicalTensor& weight) {
  return weight.dtype == DType::kF8E4M3 || weight.nibbles;
}

absl::StatusOr<CompressedWeights> CompressedWeights::Of(const Checkpoint& checkpoint,
                                                        const std::map<std::string, CanonicalTensor>& tensors) {
  CompressedWeights compressed;
  if (std::ranges::any_of(tensors, [](const auto& entry) {
        return IsOneOf(entry.second.dtype, {DType::kU8, DType::kF8E4M3});
      })) {
    SLIPWAY_ASSIGN_OR_RETURN(compressed.quantizers_, CanonicalizeQuantizers(checkpoint));
  }
  for (const auto& [name, tensor] : tensors) {
    if (tensor.dtype == DType::kU8 && !tensor.nibbles && compressed.quantizers_.contains(NameOf(tensor, kScale))) {
      return Error(
          Reason::kCheckpointUnsupported,
          "is compressed (mtq.compress) to four bits that are not NVFP4 as ModelOpt's own code packs it, which is not "
          "read: export the checkpoint from before mtq.compress",
          {.tensor = name});
    }
  }
  return compressed;
}

absl::StatusOr<const CanonicalTensor*> CompressedWeights::Find(const CanonicalTensor& weight,
                                                               const char* buffer) const {
  const auto found = quantizers_.find(NameOf(weight, buffer));
  if (found == quantizers_.end()) {
    return Error(Reason::kCheckpointUnsupported,
                 fmt::format("is stored as {}, without the scale that ModelOpt keeps beside a compressed weight",
                             InfoOf(weight.dtype).safetensors_name),
                 {.tensor = weight.name});
  }
  return &found->second;
}

absl::StatusOr<BlockScales> CompressedWeights::ScalesOf(const CanonicalTensor& weight,
                                                        const std::vector<RowRange>& rows,
                                                        const ModelConfiguration& configuration,
                                                        const Checkpoint& checkpoint) const {
  SLIPWAY_ASSIGN_OR_RETURN(const CanonicalTensor* const scale, Find(weight, kScale));
  const bool one = CheckedVolume(scale->shape) == 1;
  if (weight.shape.size() != 2 || (!weight.nibbles && (!IsOneOf(scale->dtype, {DType::kF32, DType::kBF16}) ||
                                                       (scale->shape.size() > 1 && scale->shape.back() != 1)))) {
    return RefuseScales(weight, *scale);
  }
  if (one && !weight.nibbles) {
    return BlockScales{.regions = WholeOf(*scale, checkpoint), .rows = weight.shape[0], .columns = weight.shape[1]};
  }
  SLIPWAY_ASSIGN_OR_RETURN(StoredAmaxes of_rows,
                           AmaxesOf(*scale, weight, {.rows = 1, .columns = weight.nibbles ? kNvfp4Block : 0},
                                    IsGated(weight, configuration), rows, checkpoint));
  BlockScales scales{.regions = std::move(of_rows.regions), .rows = 1, .columns = weight.shape[1]};
  if (weight.nibbles) {
    SLIPWAY_ASSIGN_OR_RETURN(const CanonicalTensor* const whole, Find(weight, kDoubleScale));
    scales.columns = kNvfp4Block;
    SLIPWAY_ASSIGN_OR_RETURN(scales.factor, ReadDoubleScale(*whole, checkpoint));
  }
  return scales;
}

absl::StatusOr<std::vector<SourceRegion>> CompressedWeights::ScalesOfUnused(const CanonicalTensor& weight,
                                                                            RowRange rows,
                                                                            const ModelConfiguration& configuration,
                                                                            const Checkpoint& checkpoint) const {
  SLIPWAY_ASSIGN_OR_RETURN(BlockScales scales, ScalesOf(weight, {rows}, configuration, checkpoint));
  return scales.rows == 1 ? std::move(scales.regions) : std::vector<SourceRegion>();
}

}  // namespace slipway::engine
