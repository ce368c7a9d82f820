// Export options as a manifest has them, so that the plan of an artifact can be made again.
//
// {"targets", "quantization", "hf_config", "architecture", "iteration" (where one was given), "dtype" (the same),
// "max_shard_bytes", "allow_custom_code", "adapter", "adapter_only", "recipe" (its text), "kv_cache", "config_form",
// "scale_search", "ranges", "tensor_parallel", "pipeline_parallel", "expert_parallel", "tensorrt_llm_version"}: all but
// the checkpoint and the digest, which the manifest has elsewhere.
#pragma once

#include <nlohmann/json.hpp>

#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

[[nodiscard]] nlohmann::ordered_json OptionsToJson(const ExportOptions& options);

// Throws nlohmann::json::exception for anything else.
[[nodiscard]] ExportOptions OptionsFromJson(const nlohmann::json& json);

}  // namespace slipway::engine
