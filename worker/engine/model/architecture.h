// A model family as data: which canonical tensors it has, what they are called in Hugging Face's layout, how one
// becomes the other, and what its config.json says. One table file a family (worker/engine/model/architectures/).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "worker/engine/shape.h"

namespace slipway::engine {

struct ModelConfiguration;

// How one canonical tensor becomes one or more Hugging Face tensors; plan/transforms.h has one function for each.
enum class Transform : std::uint8_t {
  kCopy,        // the same elements
  kNorm,        // the same, or +1 where the checkpoint stores gamma minus 1 and the family does not
  kVocabulary,  // rows [0, vocabulary_size); the rest is padding
  kQkv,         // the interleaved groups of linear_qkv into q, k, v
  kGated,       // halves along axis 0 into gate and up
};

enum class Presence : std::uint8_t {
  kRequired,
  kIfQkvBias,  // exactly when the configuration says so
  kIfLinearBias,
  kIfQkNorm,
  kUnlessTied,  // the output layer
};

// An extent of a tensor in terms of the configuration.
enum class Extent : std::uint8_t {
  kNone,  // no such axis
  kHidden,
  kFfn,
  kVocabulary,    // without padding
  kQueryRows,     // attention heads x head dimension
  kKeyValueRows,  // KV heads x head dimension
  kHeadDimension,
};

// One Hugging Face tensor.
struct TargetRule {
  std::string_view name;
  Extent rows = Extent::kNone;
  Extent columns = Extent::kNone;
};

// "{layer}" stands for the layer's number, in source and targets alike. Rules stand in the order in which the tensors
// are written; neighbouring rules with "{layer}" are written layer by layer.
struct TensorRule {
  std::string_view source;
  std::span<const TargetRule> targets;  // one, or q/k/v, or gate/up
  Transform transform = Transform::kCopy;
  Presence presence = Presence::kRequired;
};

// One field of config.json and how to get it from the configuration; no value leaves the field out, null is written.
struct ConfigField {
  std::string_view name;
  std::optional<nlohmann::json> (*value)(const ModelConfiguration&) = nullptr;
  // The checkpoint does not really know: where the user's config.json has the field, its value stays.
  bool default_only = false;
};

struct Architecture {
  std::string_view name;        // "LlamaForCausalLM"
  std::string_view model_type;  // "llama"
  std::string_view summary;     // "Llama 2, 3, 3.1 to 3.3 and models of the same shape"
  std::span<const TensorRule> rules;
  std::span<const ConfigField> fields;
  // How well a configuration fits (0: it cannot be of this family; the highest wins).
  int (*fit)(const ModelConfiguration&) = nullptr;
  bool zero_centered_norms = false;  // the family itself computes 1 + gamma
};

// All families. Static storage.
std::span<const Architecture* const> Architectures();
const Architecture* FindArchitecture(std::string_view name);  // null where there is none

inline constexpr std::string_view kLayerPlaceholder = "{layer}";

[[nodiscard]] bool IsPerLayer(std::string_view pattern);
// `pattern` with the layer's number in it.
[[nodiscard]] std::string ForLayer(std::string_view pattern, std::int64_t layer);
// The pattern that a canonical name is an instance of: its layer's number replaced by the placeholder.
[[nodiscard]] std::string PatternOf(std::string_view canonical_name);

[[nodiscard]] bool IsPresent(Presence presence, const ModelConfiguration& configuration);
// "the embeddings are tied", ...: why a tensor of that presence is not expected.
[[nodiscard]] std::string_view AbsenceOf(Presence presence);

[[nodiscard]] Shape TargetShape(const TargetRule& target, const ModelConfiguration& configuration);
// The shape that the rule's canonical tensor must have, vocabulary padding included.
[[nodiscard]] Shape SourceShape(const TensorRule& rule, const ModelConfiguration& configuration);

}  // namespace slipway::engine
