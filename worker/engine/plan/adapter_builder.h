// A LoRA adapter alone, as a PEFT directory: adapter_model.safetensors and adapter_config.json.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "worker/engine/checkpoint/canonical.h"
#include "worker/engine/model/model.h"
#include "worker/engine/plan/adapter.h"
#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

inline constexpr std::string_view kAdapterFile = "adapter_model.safetensors";
inline constexpr std::string_view kAdapterConfig = "adapter_config.json";

// Fills plan.tensors, plan.shards and plan.texts. Each target of a weight that the adapter changes has lora_A, which
// targets of one weight have in common, and lora_B, its rows of linear_out. `base` are the base's canonical tensors;
// factors stay as they are stored unless the options name a dtype. Errors as Adapter, CheckAdaptable, LIMIT_EXCEEDED.
absl::Status BuildAdapter(const Adapter& adapter, const std::map<std::string, CanonicalTensor>& base,
                          const Model& model, ExportPlan& plan);

}  // namespace slipway::engine
