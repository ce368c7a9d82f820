// Which recipe an export follows: the one that it names, that of its format, or what the checkpoint was calibrated for.
#pragma once

#include <optional>

#include "absl/status/statusor.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/quantize/ranges.h"
#include "worker/engine/quantize/recipe.h"

namespace slipway::engine {

// The recipe that `options` ask for, or nullopt: nothing is quantized. `calibrated`: what the checkpoint was
// calibrated for, or null. INVALID_ARGUMENT as ParseRecipe; OPTION_UNSUPPORTED for what needs a calibrated checkpoint.
absl::StatusOr<std::optional<Recipe>> RecipeFor(const ExportOptions& options, const Ranges* calibrated);

}  // namespace slipway::engine
