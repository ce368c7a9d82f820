// In which of a target's layouts a recipe's format is stored on ranks.
#pragma once

#include "absl/status/statusor.h"
#include "worker/engine/quantize/ranges.h"
#include "worker/engine/quantize/recipe.h"
#include "worker/engine/target/rank_targets.h"

namespace slipway::engine {

// The layout that a rule's modules get from the target, which quantizes; of static storage. `ranges`: or null.
// OPTION_UNSUPPORTED where the target does not take the format, its activations, groups or zero points: it says what it
// takes.
absl::StatusOr<const Layout*> ChooseRankLayout(const Recipe& recipe, const Ranges* ranges, const RecipeRule& rule,
                                               const RankTarget& target);

}  // namespace slipway::engine
