// From the plan of an export without quantization to that of one with it: each weight that the recipe quantizes is
// replaced by the tensors that its format stores, and the config files say so.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
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

// What a recipe makes of a module with a matrix.
struct PlannedModule {
  std::string module;
  const Format* format = nullptr;  // null: it stays as it is
  const Layout* layout = nullptr;  // with format
  std::int32_t group = 0;          // that the rule chooses, 0: none
  std::int32_t weight = -1;        // index into ExportPlan::quantized; -1: its layout stores values
};

// The first half of QuantizePlan in layouts that others choose, for targets that cut what it plans: plan.quantized has
// whole weights as targets see them, with ranges of inputs, without groups of scales; plan.tensors are as they were.
// The result is by tensor name. Errors as QuantizePlan's, and those of `layout_of`.
absl::StatusOr<std::map<std::string, PlannedModule, std::less<>>> QuantizeModules(
    const Recipe& recipe, const Ranges* ranges, std::int64_t layers,
    const std::function<absl::StatusOr<const Layout*>(const RecipeRule&)>& layout_of, ExportPlan& plan);

}  // namespace slipway::engine
