// Weights that ModelOpt compressed (mtq.compress): codes in place of the weight, and beside them what they are scaled
// by:
//
//   FP8    weight E4M3 [R, C]        "<module>.weight_quantizer._scale" F32 or BF16, one value, or one a row
//   NVFP4  weight U8 [R, C / 2]      "<module>.weight_quantizer._scale" E4M3 [R, C / 16], and
//          (CanonicalTensor::nibbles)  "<module>.weight_quantizer._double_scale" F32, one value
//
// A value is its code times its scale (times the second one).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/canonical.h"
#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/model/configuration.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/plan/transforms.h"

namespace slipway::engine {

inline constexpr std::int64_t kNvfp4Block = 16;
inline constexpr float kNvfp4Code = 6;            // the largest
inline constexpr float kNvfp4Range = 6 * 448.0F;  // of codes times scales

// The one value of a "_double_scale". CHECKPOINT_CORRUPT, naming it, where there are several, or it is not a normal
// number above 0 that times the largest code and scale is finite; errors as ReadStoredValues.
absl::StatusOr<float> ReadDoubleScale(const CanonicalTensor& scale, const Checkpoint& checkpoint);

class CompressedWeights {
 public:
  // Of a checkpoint whose weights are `tensors`; of none where no weight is stored as codes. CHECKPOINT_UNSUPPORTED,
  // naming the weight, where mtq.compress packed it otherwise; errors as CanonicalizeQuantizers.
  static absl::StatusOr<CompressedWeights> Of(const Checkpoint& checkpoint,
                                              const std::map<std::string, CanonicalTensor>& tensors);

  // Whether a weight is stored as codes that are read.
  [[nodiscard]] static bool IsCompressed(const CanonicalTensor& weight);

  // The scales of `rows` of `weight`, a matrix. CHECKPOINT_UNSUPPORTED, naming the weight, where it has none or others
  // than those above; errors as AmaxesOf and ReadDoubleScale.
  [[nodiscard]] absl::StatusOr<BlockScales> ScalesOf(const CanonicalTensor& weight, const std::vector<RowRange>& rows,
                                                     const ModelConfiguration& configuration,
                                                     const Checkpoint& checkpoint) const;

  // The scales of rows of `weight` that no output has; none where one is shared by all rows.
  [[nodiscard]] absl::StatusOr<std::vector<SourceRegion>> ScalesOfUnused(const CanonicalTensor& weight, RowRange rows,
                                                                         const ModelConfiguration& configuration,
                                                                         const Checkpoint& checkpoint) const;

 private:
  [[nodiscard]] absl::StatusOr<const CanonicalTensor*> Find(const CanonicalTensor& weight, const char* buffer) const;

  std::map<std::string, CanonicalTensor> quantizers_;
};

}  // namespace slipway::engine
