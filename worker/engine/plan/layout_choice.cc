#include "worker/engine/plan/layout_choice.h"

#include <algorithm>
#include <string>
#include <vector>

#include "worker/engine/plan/refusal.h"

namespace slipway::engine {
namespace {

std::vector<FormatChoice> ChoicesOf(std::span<const QuantizationCandidate> candidates) {
  std::vector<FormatChoice> choices;
  for (const QuantizationCandidate& candidate : candidates) {
    if (candidate.rule != nullptr && std::ranges::find(choices, candidate.rule->choice()) == choices.end()) {
      choices.push_back(candidate.rule->choice());
    }
  }
  return choices;
}

LayoutWish WishOf(const Recipe& recipe, const Ranges* ranges, std::span<const QuantizationCandidate> candidates) {
  const bool has_experts = std::ranges::any_of(
      candidates, [](const auto& candidate) { return candidate.module.find(".experts") != std::string::npos; });
  return {.form = recipe.form,
          .activations = recipe.activations,
          .has_ranges = ranges != nullptr || recipe.default_input_amax,
          .has_experts = has_experts};
}

absl::Status NoForm(const std::vector<FormatChoice>& choices, LayoutWish wish) {
  wish.symmetric = choices.front().symmetric;
  return Refused("", choices.size() == 1 ? WhyNoLayout(*choices.front().format, wish)
                                         : "no form of config.json has all the recipe's formats");
}

}  // namespace

bool HasPreQuantScales(const Ranges* ranges) {
  return ranges != nullptr && std::ranges::any_of(ranges->modules, [](const auto& entry) {
           return entry.second.pre_quant_scale != nullptr;
         });
}

absl::StatusOr<ChosenLayouts> ChooseLayouts(const Recipe& recipe, const Ranges* ranges,
                                            std::span<const QuantizationCandidate> candidates) {
  const std::vector<FormatChoice> choices = ChoicesOf(candidates);
  if (choices.empty()) {
    return Refused("", "the recipe quantizes nothing of this model");
  }
  LayoutWish wish = WishOf(recipe, ranges, candidates);
  if (!wish.form && HasPreQuantScales(ranges)) {
    wish.form = ConfigForm::kModelOpt;  // the only one that stores them
  } else if (!wish.form) {
    const auto form = ChooseForm(choices, wish);
    if (!form) {
      return NoForm(choices, wish);
    }
    wish.form = form;
  }
  ChosenLayouts chosen{.form = *wish.form, .layouts = {}};
  for (const FormatChoice& choice : choices) {
    wish.symmetric = choice.symmetric;
    const Layout* const layout = ChooseLayout(*choice.format, wish);
    if (layout == nullptr) {
      return Refused("", WhyNoLayout(*choice.format, wish));
    }
    chosen.layouts.emplace(choice, layout);
  }
  return chosen;
}

}  // namespace slipway::engine
