// From the plan of an export without quantization to that of one with it: each weight that the recipe quantizes is
// replaced by the tensors that its format stores, and the config files say so.
#pragma once

#include "absl/status/status.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/quantize/ranges.h"
#include "worker/engine/quantize/recipe.h"

namespace slipway::engine {

// Requires a plan with tensors (not laid out yet) and texts, of a model with `layers` layers. `ranges`: of inputs and
// of keys and values, or null. Fails with OPTION_UNSUPPORTED, naming the module and saying what to do, where
//   - a format or the engines cannot take a weight's shape, or all fused siblings are not quantized alike,
//   - a format needs ranges that are not there,
//   - nothing would be quantized, or no config form has all formats.
absl::Status QuantizePlan(const Recipe& recipe, const Ranges* ranges, std::int64_t layers, ExportPlan& plan);

}  // namespace slipway::engine
