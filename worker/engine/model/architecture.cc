#include "worker/engine/model/architecture.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string>

#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/model.h"

namespace slipway::engine {
namespace {

constexpr std::array kArchitectures = {&kLlama, &kMistral, &kQwen2, &kQwen3};

constexpr std::string_view kLayerPrefix = "decoder.layers.";

std::int64_t SizeOf(Extent extent, const ModelConfiguration& configuration) {
  switch (extent) {
    case Extent::kNone:
      return 0;
    case Extent::kHidden:
      return configuration.hidden_size;
    case Extent::kFfn:
      return configuration.ffn_hidden_size;
    case Extent::kVocabulary:
      return configuration.vocabulary_size;
    case Extent::kQueryRows:
      return configuration.attention_heads * configuration.head_dimension;
    case Extent::kKeyValueRows:
      return configuration.query_groups * configuration.head_dimension;
    case Extent::kHeadDimension:
      return configuration.head_dimension;
  }
  return 0;
}

}  // namespace

std::span<const Architecture* const> Architectures() { return kArchitectures; }

const Architecture* FindArchitecture(std::string_view name) {
  const auto* found = std::ranges::find(kArchitectures, name, &Architecture::name);
  return found == kArchitectures.end() ? nullptr : *found;
}

bool IsPerLayer(std::string_view pattern) { return pattern.find(kLayerPlaceholder) != std::string_view::npos; }

std::string ForLayer(std::string_view pattern, std::int64_t layer) {
  std::string name(pattern);
  if (const std::size_t at = name.find(kLayerPlaceholder); at != std::string::npos) {
    name.replace(at, kLayerPlaceholder.size(), std::to_string(layer));
  }
  return name;
}

std::string PatternOf(std::string_view canonical_name) {
  std::string pattern(canonical_name);
  if (!canonical_name.starts_with(kLayerPrefix)) {
    return pattern;
  }
  const auto first = pattern.begin() + static_cast<std::ptrdiff_t>(kLayerPrefix.size());
  const auto last = std::find_if(first, pattern.end(), [](unsigned char c) { return std::isdigit(c) == 0; });
  return first == last ? pattern : pattern.replace(first, last, kLayerPlaceholder);
}

bool IsPresent(Presence presence, const ModelConfiguration& configuration) {
  switch (presence) {
    case Presence::kRequired:
      return true;
    case Presence::kIfQkvBias:
      return configuration.qkv_bias;
    case Presence::kIfLinearBias:
      return configuration.linear_bias;
    case Presence::kIfQkNorm:
      return configuration.qk_norm;
    case Presence::kUnlessTied:
      return !configuration.tied_embeddings;
  }
  return false;
}

std::string_view AbsenceOf(Presence presence) {
  switch (presence) {
    case Presence::kRequired:
      return "";
    case Presence::kIfQkvBias:
      return "the configuration has no bias in the attention's projections";
    case Presence::kIfLinearBias:
      return "the configuration has no bias in linear layers";
    case Presence::kIfQkNorm:
      return "the configuration has no norms of queries and keys";
    case Presence::kUnlessTied:
      return "the configuration ties the output layer to the embeddings";
  }
  return "";
}

Shape TargetShape(const TargetRule& target, const ModelConfiguration& configuration) {
  Shape shape;
  for (const Extent extent : {target.rows, target.columns}) {
    if (extent != Extent::kNone) {
      shape.push_back(SizeOf(extent, configuration));
    }
  }
  return shape;
}

Shape SourceShape(const TensorRule& rule, const ModelConfiguration& configuration) {
  Shape shape = TargetShape(rule.targets.front(), configuration);
  if (rule.transform == Transform::kVocabulary) {
    shape[0] = configuration.padded_vocabulary_size;
  }
  for (const TargetRule& target : rule.targets.subspan(1)) {
    shape[0] += SizeOf(target.rows, configuration);
  }
  return shape;
}

}  // namespace slipway::engine
