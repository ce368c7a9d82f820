// The weights of a LoRA adapter by the weights of the model to which they belong.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/adapter.h"
#include "worker/engine/checkpoint/canonical.h"
#include "worker/engine/model/architecture.h"
#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

struct AdapterFactors {
  const CanonicalTensor* a = nullptr;  // linear_in, [rank, in]
  const CanonicalTensor* b = nullptr;  // linear_out, [out, rank]; its rows are in the order of the base's
};

// Refers to what it was made of.
class Adapter {
 public:
  // TENSOR_MISSING where one of a pair is not there, TENSOR_UNKNOWN for weights that are no adapter's,
  // CHECKPOINT_UNSUPPORTED for those of other kinds of adapters (DoRA's magnitudes) and for factors that are not
  // floating-point numbers, TENSOR_SHAPE_MISMATCH where layers are stacked that are not all `layers` of the model's.
  static absl::StatusOr<Adapter> Make(const AdaptedCheckpoint& adapted, std::int64_t layers);

  // Of the canonical weight `base`; null where the adapter does not change it.
  [[nodiscard]] const AdapterFactors* Find(const std::string& base) const;
  [[nodiscard]] const std::map<std::string, AdapterFactors>& factors() const { return factors_; }
  [[nodiscard]] const AdapterSettings& settings() const { return adapted_->settings; }

  // TENSOR_UNKNOWN unless the model has all weights that the adapter changes.
  [[nodiscard]] absl::Status CheckBases(const std::map<std::string, CanonicalTensor>& model) const;
  // TENSOR_SHAPE_MISMATCH unless the factors' product has the shape of `base`.
  [[nodiscard]] absl::Status CheckShapes(const AdapterFactors& factors, const CanonicalTensor& base) const;
  // All of A. CHECKPOINT_UNSUPPORTED where it is stored in several tensors.
  [[nodiscard]] absl::StatusOr<SourceRegion> RegionOfA(const AdapterFactors& factors,
                                                       const Checkpoint& checkpoint) const;

 private:
  explicit Adapter(const AdaptedCheckpoint& adapted) : adapted_(&adapted) {}
  absl::Status Add(const CanonicalTensor& tensor, std::int64_t layers);

  const AdaptedCheckpoint* adapted_;
  std::map<std::string, AdapterFactors> factors_;  // by base
};

// OPTION_UNSUPPORTED for rules whose outputs are not rows of the base as they are.
absl::Status CheckAdaptable(const TensorRule& rule, std::string_view base);

}  // namespace slipway::engine
