// Which family a model belongs to, and the refusal of what belongs to none.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/canonical.h"
#include "worker/engine/model/model.h"

namespace slipway::engine {

// ARCHITECTURE_UNSUPPORTED where `unsupported` facts are known, or where some tensors are unknown to the family that
// comes nearest while others that it needs are missing altogether. (Only one of the two is a damaged checkpoint of that
// family: TENSOR_UNKNOWN or TENSOR_MISSING, found when the plan is built.)
absl::Status CheckStructure(const std::map<std::string, CanonicalTensor>& tensors,
                            const std::vector<std::string>& unsupported);

// The family `named` (by --architecture), else the one of `hf_config`, else the best fit. ARCHITECTURE_UNSUPPORTED
// where there is none, or where the configuration contradicts the name.
absl::StatusOr<const Architecture*> ChooseArchitecture(const ModelConfiguration& configuration,
                                                       const std::string& named, const nlohmann::json& hf_config);

}  // namespace slipway::engine
