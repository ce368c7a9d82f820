#include "worker/engine/model/rule_instances.h"

#include <algorithm>

namespace slipway::engine {
namespace {

constexpr std::string_view kLayer = "{layer}";
constexpr std::string_view kNext = "{next}";
constexpr std::string_view kInner = "{inner}";
constexpr std::string_view kFirst = "{first}";
constexpr std::string_view kLast = "{last}";
constexpr std::string_view kExpert = "{expert}";

void Replace(std::string& text, std::string_view placeholder, std::int64_t number) {
  if (const std::size_t at = text.find(placeholder); at != std::string::npos) {
    text.replace(at, placeholder.size(), std::to_string(number));
  }
}

std::string Spell(std::string_view prefix, std::string_view name, std::int64_t layer, std::int64_t expert,
                  const ModelConfiguration& c) {
  std::string text(prefix);
  text += name;
  Replace(text, kLayer, layer);
  Replace(text, kNext, c.layers + layer);
  Replace(text, kFirst, layer * c.prediction_depth);
  Replace(text, kLast, (layer + 1) * c.prediction_depth - 1);
  Replace(text, kExpert, expert);
  return text;
}

std::vector<LayerKind> KindsOf(Repeat repeat, const ModelConfiguration& c) {
  switch (repeat) {
    case Repeat::kOnce:
      return std::vector<LayerKind>(1);
    case Repeat::kLayers:
      return c.layer_kinds;
    case Repeat::kPredictionLayers: {
      const auto depth = static_cast<std::size_t>(c.prediction_depth);
      std::vector<LayerKind> first;
      for (std::size_t inner = 0; inner < c.prediction_kinds.size(); inner += depth) {
        first.push_back(c.prediction_kinds[inner]);
      }
      return first;
    }
    case Repeat::kInnerPredictionLayers:
      return c.prediction_kinds;
    case Repeat::kVisionLayers:
      return std::vector<LayerKind>(static_cast<std::size_t>(c.vision.layers.value_or(0)));
    case Repeat::kVisionMergers:
      return std::vector<LayerKind>(static_cast<std::size_t>(c.vision.mergers.value_or(0)));
  }
  return {};
}

}  // namespace

std::vector<RuleInstance> InstancesOf(const Architecture& architecture, const ModelConfiguration& configuration) {
  std::vector<RuleInstance> instances;
  for (const RuleBlock& block : architecture.blocks) {
    const std::vector<LayerKind> kinds = KindsOf(block.repeat, configuration);
    std::vector<const TensorRule*> present;
    for (const TensorRule& rule : block.rules) {
      if (IsPresent(block, rule, configuration)) {
        present.push_back(&rule);
      }
    }
    for (std::size_t layer = 0; layer < kinds.size(); ++layer) {
      for (const TensorRule* rule : present) {
        if (IsInLayer(rule->layers, kinds[layer])) {
          instances.push_back({&block, rule, static_cast<std::int64_t>(layer)});
        }
      }
    }
  }
  return instances;
}

std::string PatternOf(const RuleBlock& block, const TensorRule& rule) {
  return std::string(block.source).append(rule.source);
}

bool IsPresent(const RuleBlock& block, const TensorRule& rule, const ModelConfiguration& configuration) {
  if (rule.presence.if_stored) {
    return configuration.Has(PatternOf(block, rule));
  }
  return rule.presence.holds == nullptr || rule.presence.holds(configuration);
}

bool IsInLayer(Layers layers, LayerKind kind) {
  switch (layers) {
    case Layers::kAll:
      return true;
    case Layers::kAttention:
      return kind.mixer == Mixer::kAttention;
    case Layers::kLinearAttention:
      return kind.mixer == Mixer::kLinearAttention;
    case Layers::kMamba:
      return kind.mixer == Mixer::kMamba;
    case Layers::kAnyMixer:
      return kind.mixer != Mixer::kNone;
    case Layers::kDense:
      return kind.feed == Feed::kDense;
    case Layers::kExperts:
      return kind.feed == Feed::kExperts;
    case Layers::kAnyFeed:
      return kind.feed != Feed::kNone;
  }
  return false;
}

bool IsPerExpert(std::string_view name) { return name.find(kExpert) != std::string_view::npos; }

bool IsStacked(const TensorRule& rule) { return IsPerExpert(rule.source) && !IsPerExpert(rule.targets.front().name); }

std::string SourceName(const RuleInstance& instance, const ModelConfiguration& configuration, std::int64_t expert) {
  if (instance.block->repeat != Repeat::kInnerPredictionLayers) {
    return Spell(instance.block->source, instance.rule->source, instance.layer, expert, configuration);
  }
  const std::int64_t depth = configuration.prediction_depth;
  std::string name =
      Spell(instance.block->source, instance.rule->source, instance.layer / depth, expert, configuration);
  Replace(name, kInner, instance.layer % depth);
  return name;
}

std::string TargetName(const RuleInstance& instance, std::size_t target, const ModelConfiguration& configuration,
                       std::int64_t expert) {
  return Spell(instance.block->target, instance.rule->targets[target].name, instance.layer, expert, configuration);
}

}  // namespace slipway::engine
