// The config.json of a Hugging Face directory, on its way into another one.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

// "LlamaForCausalLM" and "llama" as config.json says; empty where it does not.
struct StatedFamily {
  std::string architecture;
  std::string model_type;
};
StatedFamily FamilyOf(const nlohmann::ordered_json& config);

// The text of the output's config.json: the source's own, byte by byte, unless something in it changes. With
// options.dtype its dtype is set and what says that weights are quantized is removed; without allow_custom_code
// auto_map is, which `warnings` gets to know. Requires checkpoint.hf_config to be a JSON object.
std::string MakeIdentityConfig(const Checkpoint& checkpoint, const ExportOptions& options,
                               std::vector<std::string>& warnings);

}  // namespace slipway::engine
