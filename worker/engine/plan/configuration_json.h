// A model's configuration as JSON, for people who inspect and for programs.
#pragma once

#include <nlohmann/json.hpp>

#include "worker/engine/model/configuration.h"

namespace slipway::engine {

// Every member of the configuration in Megatron's words. Sizes of parts that the model does not have are null as a
// whole ("experts", "latent_attention", "indexer", "yarn", "linear_attention", "mamba"). "layer_counts" has how many
// layers have which mixer and which feed; "layer_pattern", of hybrids only, one letter a layer as Megatron-LM's
// hybrid_layer_pattern has it.
nlohmann::ordered_json ConfigurationToJson(const ModelConfiguration& configuration);

// What a Hugging Face config.json says, in the same words; null where it says nothing.
nlohmann::ordered_json StatedConfigurationToJson(const nlohmann::ordered_json& config);

}  // namespace slipway::engine
