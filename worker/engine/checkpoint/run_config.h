// Configurations that lie beside the weights as YAML, in the words of Megatron-LM's training arguments.
//
//   run_config.yaml           of Megatron-Bridge: sections; "model" has the fields of its model provider, all at one
//   level
//                             or those of the transformer below "transformer"
//   modelopt_run_config.yaml  of ModelOpt: fields of the transformer's configuration, most of them as Python prints
//   them
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "worker/engine/checkpoint/arguments.h"
#include "worker/engine/storage/source.h"

namespace slipway::engine {

// Completes what the common state of the iteration in `directory` knows. Fields of run_config.yaml go before arguments
// of the same name; modelopt_run_config.yaml counts where there is neither. Sets the layout from the outcome.
// CHECKPOINT_CORRUPT, LIMIT_EXCEEDED as of ParseYaml, CHECKPOINT_UNREADABLE.
absl::Status CompleteArguments(const SourceDirectory& directory, CommonState& common);

// The arguments that the document of a run_config.yaml means. Fields without an argument of another name keep theirs;
// "_target_" objects are values: dtypes as "torch.bfloat16", enums as {"enum": ..., "value": ...}, others as
// {"opaque": ...}. "activation_func" is the function's last name ("silu"), and sets swiglu, squared_relu, quick_geglu
// and openai_gelu where one of them says the same; "hf_model_id" is taken along.
nlohmann::json RunConfigArguments(const nlohmann::json& document);

// The same of a modelopt_run_config.yaml: "None" is null, text that is a number, truth or list becomes one.
nlohmann::json ModelOptArguments(const nlohmann::json& document);

}  // namespace slipway::engine
