// Which family a model belongs to, and the refusal of what belongs to none.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/engine/model/model.h"

namespace slipway::engine {

// The class that a config.json names, or empty.
std::string ClassOf(const nlohmann::json& hf_config);

// CONFIGURATION_INVALID: for a family that needs the user's config.json.
absl::Status NeedsConfig(const Architecture& architecture);

// The family `named` (by --architecture), else the one of `hf_config`, else the one whose tensors are the checkpoint's;
// of several such the best fit, with a note. ARCHITECTURE_UNSUPPORTED where there is none, naming the nearest and what
// does not match, or where the configuration contradicts the name. (A checkpoint that only lacks tensors, or only has
// too many, is a damaged one of that family: found when the plan is built.)
absl::StatusOr<const Architecture*> ChooseArchitecture(const ModelConfiguration& configuration,
                                                       const std::string& named, const nlohmann::json& hf_config,
                                                       std::vector<std::string>& notes);

// Other families that the checkpoint's tensors and configuration fit as well as `chosen`.
std::vector<const Architecture*> FamiliesAsNear(const Architecture& chosen, const ModelConfiguration& configuration);

// ARCHITECTURE_UNSUPPORTED for special settings that no family has.
absl::Status RefuseUnknownFacts(const ModelConfiguration& configuration);

}  // namespace slipway::engine
