// model.safetensors.index.json: which file has which tensor, as Hugging Face's loaders expect it where there are
// several: {"metadata": {"total_size": bytes of all tensors}, "weight_map": {name: file}}, names sorted.
#pragma once

#include <string>
#include <string_view>

#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

inline constexpr std::string_view kIndexFile = "model.safetensors.index.json";

[[nodiscard]] std::string IndexToJson(const ExportPlan& plan);

}  // namespace slipway::engine
