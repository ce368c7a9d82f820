#include "worker/engine/model/architecture.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string>
#include <utility>

#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/rule_instances.h"

namespace slipway::engine {
namespace {

struct Numbered {
  std::string_view before;  // the number follows at the name's beginning, or anywhere after a dot
  std::string_view placeholder;
};

constexpr auto kNumbered = std::to_array<Numbered>({
    {"decoder.layers.", "{layer}"},
    {"mtp.layers.", "{layer}"},
    {"visual.blocks.", "{layer}"},
    {"vision_model.decoder.layers.", "{layer}"},
    {"vision_model.decoder.deepstack_merger_list.", "{layer}"},
    {".mtp_model_layer.layers.", "{inner}"},
    {".mlp.experts.", "{expert}"},
});

}  // namespace

std::string_view NameOf(Proof proof) {
  switch (proof) {
    case Proof::kMegatronCore:
      return "megatron-core";
    case Proof::kMegatronBridge:
      return "megatron-bridge";
    case Proof::kDerived:
      return "derived";
  }
  return "";
}

std::string_view SummaryOf(Proof proof) {
  switch (proof) {
    case Proof::kMegatronCore:
      return "that Megatron-Core wrote";
    case Proof::kMegatronBridge:
      return "that Megatron-Bridge wrote";
    case Proof::kDerived:
      return "derived by rule";
  }
  return "";
}

std::span<const Architecture* const> Architectures() { return kArchitectures; }

const Architecture* FindArchitecture(std::string_view name) {
  const auto* found = std::ranges::find(kArchitectures, name, &Architecture::name);
  return found == kArchitectures.end() ? nullptr : *found;
}

std::string PatternOf(std::string_view canonical_name) {
  std::string pattern(canonical_name);
  for (const Numbered& number : kNumbered) {
    const std::size_t at = pattern.find(number.before);
    if (at == std::string::npos || (number.before.front() != '.' && at != 0)) {
      continue;
    }
    const auto first = pattern.begin() + static_cast<std::ptrdiff_t>(at + number.before.size());
    const auto last = std::find_if(first, pattern.end(), [](unsigned char c) { return std::isdigit(c) == 0; });
    if (first != last) {
      pattern.replace(first, last, number.placeholder);
    }
  }
  return pattern;
}

Shape TargetShape(const TargetRule& target, const ModelConfiguration& configuration) {
  Shape shape;
  for (const Extent extent : target.shape) {
    if (extent != nullptr) {
      shape.push_back(extent(configuration));
    }
  }
  return shape;
}

Shape SelectedShape(const TensorRule& rule, const TargetRule& target, const ModelConfiguration& c) {
  Shape shape = TargetShape(target, c);
  if (IsStacked(rule)) {
    shape.erase(shape.begin());
  }
  if (rule.axes == Axes::kTransposed || rule.axes == Axes::kInterleavedTransposed) {
    std::swap(shape[shape.size() - 2], shape[shape.size() - 1]);
  }
  return shape;
}

Shape SourceShape(const TensorRule& rule, const ModelConfiguration& configuration) {
  Shape shape = SelectedShape(rule, rule.targets.front(), configuration);
  if (rule.transform == Transform::kVocabulary) {
    shape[0] = configuration.padded_vocabulary_size;
  }
  for (const TargetRule& target : rule.targets.subspan(1)) {
    shape[0] += SelectedShape(rule, target, configuration)[0];
  }
  return shape;
}

}  // namespace slipway::engine
