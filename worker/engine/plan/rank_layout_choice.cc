#include "worker/engine/plan/rank_layout_choice.h"

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/error.h"
#include "worker/engine/plan/refusal.h"

namespace slipway::engine {
namespace {

// Of the target's rows of a format the one with the activations that are asked for, or the first that the ranges of
// inputs suffice for; where they do for none, the first, which then says what is missing.
absl::StatusOr<const RankFormat*> RankFormatOf(const Recipe& recipe, const Ranges* ranges, const RecipeRule& rule,
                                               const RankTarget& target) {
  std::vector<std::string_view> known;
  std::vector<const RankFormat*> rows;
  for (const RankFormat& format : target.quantization->formats) {
    if (std::ranges::find(known, format.format->name) == known.end()) {
      known.push_back(format.format->name);
    }
    if (format.format == rule.format) {
      rows.push_back(&format);
    }
  }
  if (rows.empty()) {
    return Refused("", fmt::format("--target {} does not take {}; it takes {}, and --target huggingface takes {}",
                                   target.name, rule.format->name, fmt::join(known, ", "), rule.format->name));
  }
  const bool has_ranges = ranges != nullptr || recipe.default_input_amax;
  std::vector<std::string_view> activations;
  for (const RankFormat* const row : rows) {
    const Activations taken = row->layout.activations;
    if (recipe.activations ? taken == *recipe.activations : taken != Activations::kStatic || has_ranges) {
      return row;
    }
    activations.push_back(NameOf(taken));
  }
  if (recipe.activations) {
    return Refused("", fmt::format("--target {} takes {} with activations {}, not {}", target.name, rule.format->name,
                                   fmt::join(activations, " or "), NameOf(*recipe.activations)));
  }
  return rows.front();
}

}  // namespace

absl::StatusOr<const Layout*> ChooseRankLayout(const Recipe& recipe, const Ranges* ranges, const RecipeRule& rule,
                                               const RankTarget& target) {
  SLIPWAY_ASSIGN_OR_RETURN(const RankFormat* const format, RankFormatOf(recipe, ranges, rule, target));
  if (rule.symmetric == false) {
    return Refused("", fmt::format("--target {} has no zero points: leave out symmetric: false, or choose --target "
                                   "huggingface",
                                   target.name));
  }
  const std::int32_t group = rule.group.value_or(0);
  const bool chosen =
      group == 0 || std::ranges::find(format->groups, group) != format->groups.end() ||
      (format->groups.empty() && group == format->layout.coding.group && !format->layout.tensors.empty());
  if (!chosen) {
    return Refused("", format->groups.empty()
                           ? fmt::format("--target {} takes {} without a choice of groups, not in groups of {}",
                                         target.name, rule.format->name, group)
                           : fmt::format("--target {} takes {} in groups of {}, not of {}", target.name,
                                         rule.format->name, fmt::join(format->groups, " or "), group));
  }
  return &format->layout;
}

}  // namespace slipway::engine
