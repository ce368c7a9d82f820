#include "worker/engine/plan/quantization_candidates.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/error.h"
#include "worker/engine/plan/linear_weights.h"
#include "worker/engine/plan/refusal.h"
#include "worker/engine/quantize/module_patterns.h"

namespace slipway::engine {
namespace {

bool AreAlike(const RecipeRule* a, const RecipeRule* b) {
  return a == b || (a != nullptr && b != nullptr && a->choice() == b->choice() && a->group == b->group);
}

// "rule 2 (modules *mpl*, layers 0, -1)"
std::string Describe(const Recipe& recipe, const RecipeRule& rule) {
  return fmt::format("rule {} (modules {}{}{})", &rule - recipe.rules.data() + 1,
                     rule.modules.empty() ? "*" : fmt::format("{}", fmt::join(rule.modules, ", ")),
                     rule.layers.empty() ? "" : ", layers ", fmt::join(rule.layers, ", "));
}

// "model.layers.3.mlp.experts" of one of its numbered experts' modules; else "".
std::string_view ExpertsOf(std::string_view module) {
  constexpr std::string_view kExperts = ".experts.";
  const std::size_t at = module.find(kExperts);
  const std::size_t number = at + kExperts.size();
  const bool is_numbered =
      at != std::string_view::npos && number < module.size() && module[number] >= '0' && module[number] <= '9';
  return is_numbered ? module.substr(0, number - 1) : std::string_view();
}

}  // namespace

std::vector<QuantizationCandidate> CandidatesOf(const Recipe& recipe, std::int64_t layers, const ExportPlan& plan) {
  std::vector<QuantizationCandidate> candidates;
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
    if (auto module = ModuleOf(plan.tensors[i])) {
      const RecipeRule* const rule = RuleFor(recipe, *module, LayerOfModule(*module), layers);
      const bool quantized = rule != nullptr && rule->format != nullptr;
      candidates.push_back({.tensor = i, .module = *std::move(module), .rule = quantized ? rule : nullptr});
    }
  }
  return candidates;
}

absl::Status CheckCandidates(const std::vector<QuantizationCandidate>& candidates, const ExportPlan& plan) {
  std::map<std::string, const QuantizationCandidate*> first;
  std::map<std::string_view, const QuantizationCandidate*> experts;
  for (const QuantizationCandidate& candidate : candidates) {
    const DType dtype = plan.tensors[candidate.tensor].dtype;
    if (candidate.rule != nullptr && !IsFloat(dtype)) {
      return Refused(candidate.module,
                     fmt::format("holds {}, which is not quantized again: leave the module out with a rule of --recipe",
                                 InfoOf(dtype).safetensors_name));
    }
    if (candidate.rule != nullptr && IsEmbedding(candidate.module)) {
      return Refused(candidate.module,
                     "is a table of embeddings, which no engine loads quantized: leave it out of the recipe's rules");
    }
    const auto [expert, is_first] = experts.emplace(ExpertsOf(candidate.module), &candidate);
    if (!expert->first.empty() && !is_first && !AreAlike(expert->second->rule, candidate.rule)) {
      return Refused(candidate.module,
                     fmt::format("belongs to the same experts as {}, which engines compute as one: quantize all their "
                                 "matrices in a layer alike or none of them",
                                 expert->second->module));
    }
    // Engines compute fused siblings as one layer.
    const auto [at, fresh] = first.emplace(FusedNameOf(candidate.module), &candidate);
    if (!fresh && !AreAlike(at->second->rule, candidate.rule)) {
      return Refused(candidate.module,
                     fmt::format("is computed together with {}, so both are quantized alike or not at all: change the "
                                 "recipe's rules",
                                 at->second->module));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckRules(const Recipe& recipe, const std::vector<QuantizationCandidate>& candidates, std::int64_t layers,
                        ExportPlan& plan) {
  for (const RecipeRule& rule : recipe.rules) {
    if (std::ranges::any_of(candidates, [&](const QuantizationCandidate& candidate) {
          return Matches(rule, candidate.module, LayerOfModule(candidate.module), layers);
        })) {
      continue;
    }
    if (rule.format != nullptr) {
      return Refused("", fmt::format("--recipe: {} matches no module of this model", Describe(recipe, rule)));
    }
    plan.warnings.push_back(fmt::format("the recipe's {} matches no module of this model", Describe(recipe, rule)));
  }
  return absl::OkStatus();
}

}  // namespace slipway::engine
