#include "worker/engine/plan/scale_groups.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "worker/engine/plan/linear_weights.h"
#include "worker/engine/quantize/quantizer.h"

namespace slipway::engine {
namespace {

// Of a group all of whose weights have a given one, the largest.
std::optional<float> GivenAmax(const Ranges& ranges, const AbsorbedScales& absorbed, const ExportPlan& plan,
                               const ScaleGroup& group) {
  std::optional<float> largest;
  for (const std::int32_t index : group.weights) {
    const auto given = ranges.modules.find(plan.quantized[static_cast<std::size_t>(index)].module);
    if (given == ranges.modules.end() || !given->second.weight_amax || absorbed.by_weights.contains(given->first)) {
      return std::nullopt;
    }
    largest = std::max(largest.value_or(0), *given->second.weight_amax);
  }
  return largest;
}

}  // namespace

void MakeScaleGroups(const Ranges* ranges, const AbsorbedScales& absorbed, ExportPlan& plan) {
  std::map<std::string, std::int32_t> groups;  // by name
  for (std::size_t i = 0; i < plan.quantized.size(); ++i) {
    QuantizedWeight& weight = plan.quantized[i];
    if (weight.coding.sharing != Sharing::kTensor && !IsTwoLevel(weight.coding.rule) &&
        !Stores(*weight.layout, StoredRole::kFloat8Scale)) {
      continue;
    }
    // Engines keep one scale for the gate and the up projection of an expert, whatever the format.
    const bool is_expert = weight.module.find(".experts.") != std::string::npos;
    const bool shared = weight.format->shares_tensor_scale || is_expert;
    const std::string name = shared ? FusedNameOf(weight.module) : weight.module;
    const auto [at, fresh] = groups.emplace(name, static_cast<std::int32_t>(plan.scale_groups.size()));
    if (fresh) {
      plan.scale_groups.emplace_back();
    }
    weight.scale_group = at->second;
    ScaleGroup& group = plan.scale_groups[static_cast<std::size_t>(at->second)];
    group.weights.push_back(static_cast<std::int32_t>(i));
  }
  for (ScaleGroup& group : plan.scale_groups) {
    group.amax = ranges == nullptr ? std::nullopt : GivenAmax(*ranges, absorbed, plan, group);
  }
}

}  // namespace slipway::engine
