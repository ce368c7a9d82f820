#include "worker/engine/plan/quantize_plan.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "common/error.h"
#include "worker/engine/plan/consumers.h"
#include "worker/engine/plan/describe_quantization.h"
#include "worker/engine/plan/input_ranges.h"
#include "worker/engine/plan/input_scales.h"
#include "worker/engine/plan/kv_cache_scales.h"
#include "worker/engine/plan/layout_choice.h"
#include "worker/engine/plan/linear_weights.h"
#include "worker/engine/plan/matrix_slice.h"
#include "worker/engine/plan/quantization_candidates.h"
#include "worker/engine/plan/quantized_weight.h"
#include "worker/engine/plan/refusal.h"
#include "worker/engine/plan/scale_groups.h"
#include "worker/engine/target/quantization_config.h"

namespace slipway::engine {
namespace {

class Stage {
 public:
  Stage(const Recipe& recipe, const Ranges* ranges, std::int64_t layers, ExportPlan& plan)
      : recipe_(recipe), ranges_(ranges), layers_(layers), plan_(plan) {}

  absl::Status Run() {
    SLIPWAY_RETURN_IF_ERROR(FindCandidates());
    SLIPWAY_ASSIGN_OR_RETURN(chosen_, ChooseLayouts(recipe_, ranges_, candidates_));
    if (HasPreQuantScales(ranges_)) {
      const auto stores = [this](const QuantizationCandidate& candidate) {
        return candidate.rule != nullptr && Stores(LayoutOf(*candidate.rule), StoredRole::kPreQuantScale);
      };
      SLIPWAY_ASSIGN_OR_RETURN(absorbed_, AbsorbInputScales(candidates_, *ranges_, stores, plan_));
    }
    SLIPWAY_RETURN_IF_ERROR(Replace());
    SLIPWAY_RETURN_IF_ERROR(InputRanges(recipe_, ranges_, plan_));
    MakeScaleGroups(ranges_, absorbed_, plan_);
    WarnOfConsumers(plan_);
    SLIPWAY_RETURN_IF_ERROR(AddKvCacheScales(recipe_.kv_cache, chosen_.form, ranges_, plan_));
    return DescribeQuantization(chosen_.form, recipe_.kv_cache, std::move(modules_), plan_.texts);
  }

  absl::StatusOr<std::map<std::string, PlannedModule, std::less<>>> PlanModules(
      const std::function<absl::StatusOr<const Layout*>(const RecipeRule&)>& layout_of) {
    SLIPWAY_RETURN_IF_ERROR(FindCandidates());
    if (std::ranges::none_of(candidates_, [](const auto& candidate) { return candidate.rule != nullptr; })) {
      return Refused("", "the recipe quantizes nothing of this model");
    }
    std::map<std::string, PlannedModule, std::less<>> planned;
    for (const QuantizationCandidate& candidate : candidates_) {
      PlannedModule& module = planned[plan_.tensors[candidate.tensor].name];
      module.module = candidate.module;
      if (candidate.rule != nullptr) {
        module.format = candidate.rule->format;
        module.group = candidate.rule->group.value_or(0);
        SLIPWAY_ASSIGN_OR_RETURN(module.layout, layout_of(*candidate.rule));
        SLIPWAY_RETURN_IF_ERROR(QuantizeWhole(candidate, module));
      }
    }
    SLIPWAY_RETURN_IF_ERROR(InputRanges(recipe_, ranges_, plan_));
    return planned;
  }

 private:
  absl::Status FindCandidates() {
    candidates_ = CandidatesOf(recipe_, layers_, plan_);
    if (!plan_.options.recipe.empty()) {
      SLIPWAY_RETURN_IF_ERROR(CheckRules(recipe_, candidates_, layers_, plan_));
    }
    return CheckCandidates(candidates_, plan_);
  }

  [[nodiscard]] const Layout& LayoutOf(const RecipeRule& rule) const { return *chosen_.layouts.at(rule.choice()); }

  absl::Status QuantizeWhole(const QuantizationCandidate& candidate, PlannedModule& module) {
    if (module.layout->tensors.empty()) {
      return absl::OkStatus();
    }
    SLIPWAY_ASSIGN_OR_RETURN(std::vector<LinearWeight> weights,
                             LinearWeightsOf(plan_, plan_.tensors[candidate.tensor], /*packed=*/false));
    LinearWeight& weight = weights.front();
    if (weights.size() != 1 || weight.values.shape.size() != 2) {
      return Refused(candidate.module,
                     "holds experts in one tensor, which is not quantized for ranks: choose --target "
                     "huggingface");
    }
    SLIPWAY_RETURN_IF_ERROR(MoveToTargetAxes(plan_, weight.values));
    weight.rows = weight.values.shape[0];
    weight.columns = weight.values.shape[1];
    weight.transposed = false;
    module.weight = static_cast<std::int32_t>(plan_.quantized.size());
    std::vector<OutputTensor> stored;  // the target's are others
    return Quantize(std::move(weight), *candidate.rule, *module.layout, stored);
  }

  absl::Status Replace() {
    std::vector<OutputTensor> tensors;
    auto next = candidates_.begin();
    for (std::size_t i = 0; i < plan_.tensors.size(); ++i) {
      const QuantizationCandidate* const candidate =
          next != candidates_.end() && next->tensor == i ? &*next++ : nullptr;
      if (candidate == nullptr || candidate->rule == nullptr || !Takes(*candidate->rule, plan_.tensors[i])) {
        if (candidate != nullptr) {
          modules_.push_back({.name = candidate->module});
        }
        tensors.push_back(std::move(plan_.tensors[i]));
        continue;
      }
      const Layout& layout = LayoutOf(*candidate->rule);
      SLIPWAY_ASSIGN_OR_RETURN(std::vector<LinearWeight> weights,
                               LinearWeightsOf(plan_, plan_.tensors[i], layout.stacked_experts));
      for (LinearWeight& weight : weights) {
        SLIPWAY_RETURN_IF_ERROR(Quantize(std::move(weight), *candidate->rule, layout, tensors));
      }
    }
    plan_.tensors = std::move(tensors);
    return plan_.quantized.empty()
               ? Refused("",
                         fmt::format("config form {} is for experts of a layer in one tensor alone, and the model has "
                                     "none of them: choose another --config-form",
                                     NameOf(chosen_.form)))
               : absl::OkStatus();
  }

  // What a layout for stacked experts does not take stays as it is: that is what the form means.
  [[nodiscard]] bool Takes(const RecipeRule& rule, const OutputTensor& tensor) const {
    return !LayoutOf(rule).stacked_experts || IsStackedExperts(tensor);
  }

  absl::Status Quantize(LinearWeight linear, const RecipeRule& rule, const Layout& layout,
                        std::vector<OutputTensor>& tensors) {
    SLIPWAY_ASSIGN_OR_RETURN(QuantizedWeight weight,
                             MakeQuantizedWeight(std::move(linear), rule, layout, recipe_.search, plan_.architecture));
    SLIPWAY_RETURN_IF_ERROR(TakeRanges(ranges_, absorbed_, weight));
    SLIPWAY_RETURN_IF_ERROR(AppendStored(weight, static_cast<std::int32_t>(plan_.quantized.size()), tensors));
    modules_.push_back({.name = weight.module, .format = rule.format, .layout = &layout, .group = weight.coding.group});
    plan_.quantized.push_back(std::move(weight));
    return absl::OkStatus();
  }

  const Recipe& recipe_;
  const Ranges* const ranges_;  // or null
  const std::int64_t layers_;
  ExportPlan& plan_;
  std::vector<QuantizationCandidate> candidates_;  // in the order of tensors
  ChosenLayouts chosen_;
  std::vector<QuantizedModule> modules_;
  AbsorbedScales absorbed_;
};

}  // namespace

absl::StatusOr<std::map<std::string, PlannedModule, std::less<>>> QuantizeModules(
    const Recipe& recipe, const Ranges* ranges, std::int64_t layers,
    const std::function<absl::StatusOr<const Layout*>(const RecipeRule&)>& layout_of, ExportPlan& plan) {
  return Stage(recipe, ranges, layers, plan).PlanModules(layout_of);
}

absl::Status QuantizePlan(const Recipe& recipe, const Ranges* ranges, std::int64_t layers, ExportPlan& plan) {
  return Stage(recipe, ranges, layers, plan).Run();
}

}  // namespace slipway::engine
