// Which modules of a plan a recipe quantizes, and whether the recipe means this model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/quantize/recipe.h"

namespace slipway::engine {

// A module that has a matrix, and what the recipe makes of it.
struct QuantizationCandidate {
  std::size_t tensor = 0;  // index into the plan's tensors
  std::string module;
  const RecipeRule* rule = nullptr;  // of the recipe, with a format; null: it stays as it is
};

// In the order of the plan's tensors. `layers`: of the model, without prediction layers.
std::vector<QuantizationCandidate> CandidatesOf(const Recipe& recipe, std::int64_t layers, const ExportPlan& plan);

// OPTION_UNSUPPORTED, naming the module, where fused siblings are not quantized alike, and where what is to be
// quantized holds codes already.
absl::Status CheckCandidates(const std::vector<QuantizationCandidate>& candidates, const ExportPlan& plan);

// Of a recipe that somebody wrote: OPTION_UNSUPPORTED for a rule that quantizes and matches no module of the model, a
// warning of the plan for one that keeps modules as they are and matches none.
absl::Status CheckRules(const Recipe& recipe, const std::vector<QuantizationCandidate>& candidates, std::int64_t layers,
                        ExportPlan& plan);

}  // namespace slipway::engine
