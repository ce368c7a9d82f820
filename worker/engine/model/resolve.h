// One configuration out of all that is known: arguments, config.json, shapes of tensors.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/canonical.h"
#include "worker/engine/model/model.h"
#include "worker/engine/model/stated_configuration.h"

namespace slipway::engine {

// Arguments win over config.json, or it over them (with a note), but not about sizes: there a difference means that it
// is another model's, CONFIGURATION_INVALID. What neither says is derived from shapes, or takes Megatron's default
// (with a note). Whether all tensors have the shapes that follow is checked where the plan is built.
// CONFIGURATION_INVALID where something needed is neither stated nor derivable, or out of bounds.
absl::StatusOr<ModelConfiguration> ResolveConfiguration(const StatedConfiguration& arguments,
                                                        const StatedConfiguration& hf_config, bool config_wins,
                                                        const std::map<std::string, CanonicalTensor>& tensors,
                                                        std::vector<std::string>& notes);

}  // namespace slipway::engine
