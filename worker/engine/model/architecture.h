// A model family as data: which canonical tensors it has, what they are called in Hugging Face's layout, how one
// becomes the other, and what its config.json says. One table file a family (worker/engine/model/architectures/).
#pragma once

#include <span>
#include <string_view>

namespace slipway::engine {

struct ModelConfiguration;

// How one canonical tensor becomes one or more Hugging Face tensors. Letters: megatron-architectures, section 1.
enum class Transform {
  kCopy,        // C: the same elements
  kNorm,        // C, or +1 where the checkpoint stores gamma minus 1 and the family does not
  kVocabulary,  // V: rows [0, vocabulary_size)
  kQkv,         // Q: the interleaved groups of linear_qkv into q, k, v
  kGated,       // F: halves along axis 0 into gate and up
};

enum class Presence {
  kRequired,
  kIfQkvBias,  // exactly when the configuration says so
  kIfLinearBias,
  kIfQkNorm,
  kUnlessTied,  // the output layer
};

// "{layer}" stands for the layer's number, in source and targets alike.
struct TensorRule {
  std::string_view source;
  std::span<const std::string_view> targets;  // one, or q/k/v, or gate/up
  Transform transform = Transform::kCopy;
  Presence presence = Presence::kRequired;
};

// One field of config.json and how to get it from the configuration; a null value leaves the field out.
struct ConfigField;

struct Architecture {
  std::string_view name;        // "LlamaForCausalLM"
  std::string_view model_type;  // "llama"
  std::string_view summary;     // "Llama 2, 3, 3.1 to 3.3 and models of the same shape"
  std::span<const TensorRule> rules;
  std::span<const ConfigField> fields;
  // Whether a configuration can be of this family, and how well it fits (0: cannot; the highest wins).
  int (*fit)(const ModelConfiguration&) = nullptr;
};

// All families. Static storage.
std::span<const Architecture* const> Architectures();
const Architecture* FindArchitecture(std::string_view name);

}  // namespace slipway::engine
