#include "worker/engine/quantize/recipe.h"

#include <algorithm>
#include <cstddef>

#include "worker/engine/quantize/module_patterns.h"

namespace slipway::engine {
namespace {

bool HasLayer(const RecipeRule& rule, std::optional<std::int64_t> layer, std::int64_t layers) {
  return rule.layers.empty() || (layer && std::ranges::any_of(rule.layers, [&](std::int64_t number) {
                                   return number == *layer || (number < 0 && number + layers == *layer);
                                 }));
}

bool HasModule(const RecipeRule& rule, std::string_view module) {
  return rule.modules.empty() ||
         std::ranges::any_of(rule.modules, [&](const std::string& pattern) { return MatchesPattern(pattern, module); });
}

// Whether a rule that matches was written for a module that is kept otherwise.
bool Means(const RecipeRule& rule, std::string_view module, bool numbered_prediction_layer) {
  if (!IsKeptByDefault(module)) {
    return !numbered_prediction_layer || !rule.layers.empty();
  }
  return std::ranges::any_of(rule.modules, [&](const std::string& pattern) {
    return IsKeptByDefault(pattern) && MatchesPattern(pattern, module);
  });
}

}  // namespace

Recipe RecipeOf(const Format& format) {
  Recipe recipe;
  recipe.name = format.name;
  recipe.rules.push_back({.modules = {"*"}, .layers = {}, .format = &format, .group = {}});
  return recipe;
}

bool Matches(const RecipeRule& rule, std::string_view module, std::optional<std::int64_t> layer, std::int64_t layers) {
  return HasModule(rule, module) && HasLayer(rule, layer, layers);
}

const RecipeRule* RuleFor(const Recipe& recipe, std::string_view module, std::optional<std::int64_t> layer,
                          std::int64_t layers) {
  const bool prediction = layer && *layer >= layers;
  for (std::size_t i = recipe.rules.size(); i-- > 0;) {
    const RecipeRule& rule = recipe.rules[i];
    if (Matches(rule, module, layer, layers) && (rule.format == nullptr || Means(rule, module, prediction))) {
      return rule.format == nullptr ? nullptr : &rule;
    }
  }
  return nullptr;
}

}  // namespace slipway::engine
