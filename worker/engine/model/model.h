// The model: its configuration, whichever way it was learnt (training arguments, --hf-config, tensor shapes), and the
// family that it belongs to.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/canonical.h"
#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/model/architecture.h"
#include "worker/engine/model/configuration.h"

namespace slipway::engine {

struct Model {
  const Architecture* architecture = nullptr;  // static storage
  ModelConfiguration configuration;
  // The user's config.json from --hf-config, or null.
  nlohmann::json hf_config;
  std::vector<std::string> notes;  // what was assumed, one sentence each; the plan shows them as warnings
};

struct ModelOptions {
  std::string architecture;  // a Hugging Face class name, or empty: infer
  std::string hf_config;     // a directory, or empty
};

// Learns the model. Errors: ARCHITECTURE_UNSUPPORTED (naming the nearest and what does not match),
// CONFIGURATION_INVALID, TENSOR_SHAPE_MISMATCH (shapes win over arguments only where the arguments are silent; a
// contradiction is an error).
absl::StatusOr<Model> LearnModel(const Checkpoint& checkpoint, const std::map<std::string, CanonicalTensor>& tensors,
                                 const ModelOptions& options);

}  // namespace slipway::engine
