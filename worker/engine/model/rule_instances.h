// The rules of a family spelled out for one model: which canonical tensors it has and what they are called.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "worker/engine/model/architecture.h"

namespace slipway::engine {

struct RuleInstance {
  const RuleBlock* block = nullptr;
  const TensorRule* rule = nullptr;
  std::int64_t layer = 0;  // within the block
};

// Those that the model has, in the order of writing. Refers to the architecture.
std::vector<RuleInstance> InstancesOf(const Architecture& architecture, const ModelConfiguration& configuration);

// "decoder.layers.{layer}.mlp.linear_fc1.weight".
std::string PatternOf(const RuleBlock& block, const TensorRule& rule);

// Whether the model has the rule's tensor in any layer, and in this one.
bool IsPresent(const RuleBlock& block, const TensorRule& rule, const ModelConfiguration& configuration);
bool IsInLayer(Layers layers, LayerKind kind);

// "{expert}" occurs: there is one for each expert.
bool IsPerExpert(std::string_view name);
// The rule takes experts' tensors and stacks them.
bool IsStacked(const TensorRule& rule);

std::string SourceName(const RuleInstance& instance, const ModelConfiguration& configuration, std::int64_t expert);
std::string TargetName(const RuleInstance& instance, std::size_t target, const ModelConfiguration& configuration,
                       std::int64_t expert);

}  // namespace slipway::engine
