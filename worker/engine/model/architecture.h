// A model family as data: which canonical tensors it has, what they are called in Hugging Face's layout, how one
// becomes the other, and what its config.json says. One table file a family (worker/engine/model/architectures/).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "worker/engine/model/configuration.h"
#include "worker/engine/shape.h"

namespace slipway::engine {

// Which rows of its source each target of a rule takes, in order; plan/transforms.cc has one function for each.
enum class Transform : std::uint8_t {
  kCopy,        // all
  kNorm,        // all; +1 where the checkpoint stores gamma minus 1 and the family does not
  kPlainNorm,   // all; +1 where the checkpoint stores gamma minus 1, whatever the family's other norms are
  kVocabulary,  // [0, vocabulary_size); the rest is padding
  kSplit,       // targets one after the other: gate and up, ...
  kQkv,         // the interleaved groups of linear_qkv into q, k, v
  kQkvGated,    // the same where queries have gates: q with its gate head by head, k, v
  kQkvJoined,   // the interleaved groups into one tensor [q; k; v]
  kVisionQkv,   // the same of a vision tower's heads
  kDeltaNet,    // in_proj of a gated delta net into qkvz and ba, key head by key head
};

// How the axes of the selected rows lie in the target.
enum class Axes : std::uint8_t {
  kAsStored,
  kTransposed,             // the last two exchanged
  kInterleaved,            // [gate; up] along the last axis becomes gate, up, gate, up ...
  kInterleavedTransposed,  // first transposed, then interleaved along what is now the last axis
};

// Which layers have the tensor.
enum class Layers : std::uint8_t { kAll, kAttention, kLinearAttention, kMamba, kAnyMixer, kDense, kExperts, kAnyFeed };

// Whether a model of the family has the tensor at all.
struct Presence {
  bool (*holds)(const ModelConfiguration&) = nullptr;  // null: always
  std::string_view absence = {};                       // why it is not expected: "the embeddings are tied"
  bool if_stored = false;  // instead: in all its places where the checkpoint has it in any, in none otherwise
};

// An extent of a tensor in terms of the configuration (architectures/extents.h).
using Extent = std::int64_t (*)(const ModelConfiguration&);

// One Hugging Face tensor; the name follows the block's. Unused axes are null.
struct TargetRule {
  std::string_view name;
  std::array<Extent, 5> shape = {};
};

// One canonical tensor and what it becomes. "{expert}" in source and target: each expert's; in the source only: the
// experts' tensors stacked along a first axis.
struct TensorRule {
  std::string_view source;
  std::span<const TargetRule> targets;  // one, or q/k/v, or gate/up, ...
  Transform transform = Transform::kCopy;
  Presence presence = {};
  Layers layers = Layers::kAll;
  Axes axes = Axes::kAsStored;
  bool keeps_float32 = false;  // where it is stored as FP32 it stays so, whatever the others become
};

enum class Repeat : std::uint8_t {
  kOnce,
  kLayers,
  kPredictionLayers,
  kInnerPredictionLayers,  // the layers inside prediction layers, where each has several
  kVisionLayers,
  kVisionMergers,  // of layers whose output goes into the text's
};

// Rules under common prefixes, written layer by layer where they repeat. "{layer}" is the number within the block,
// "{next}" the number counted on from the decoder's layers. Layers inside prediction layers are "{inner}" of "{layer}"
// in the source and counted through in the target; "{first}" and "{last}" are a prediction layer's inner ones so
// counted.
struct RuleBlock {
  Repeat repeat = Repeat::kOnce;
  std::string_view source;
  std::string_view target;
  std::span<const TensorRule> rules;
};

// One field of config.json and how to get it from the configuration; no value leaves the field out, null is written.
struct ConfigField {
  std::string_view name;
  std::optional<nlohmann::json> (*value)(const ModelConfiguration&) = nullptr;
  // The checkpoint does not really know: where the user's config.json has the field, its value stays.
  bool default_only = false;
};

// What proves a family's table.
enum class Proof : std::uint8_t {
  kMegatronCore,    // a checkpoint that Megatron-Core wrote, against an independent golden
  kMegatronBridge,  // one that Megatron-Bridge's provider built
  kDerived,         // a checkpoint that a test wrote by inverting the mapping in its own code
};

std::string_view NameOf(Proof proof);     // "megatron-core", for programs
std::string_view SummaryOf(Proof proof);  // "that Megatron-Core wrote", of a checkpoint

struct Architecture {
  std::string_view name;        // "LlamaForCausalLM"
  std::string_view model_type;  // "llama"
  std::string_view summary;     // "Llama 2, 3, 3.1 to 3.3 and models of the same shape"
  std::span<const RuleBlock> blocks;
  std::span<const ConfigField> fields;
  // How well a configuration fits (0: it cannot be of this family; the highest wins among those whose tensors match).
  int (*fit)(const ModelConfiguration&) = nullptr;
  bool zero_centered_norms = false;  // the family itself computes 1 + gamma
  // Megatron-LM's arguments cannot tell such a model: what the user's config.json says wins over them.
  bool beyond_arguments = false;
  // Settings that make another model of it than most families know, which this one has (ModelConfiguration::special).
  std::span<const std::string_view> accepts = {};
  Proof proof = Proof::kMegatronCore;
};

// All families. Static storage.
std::span<const Architecture* const> Architectures();
const Architecture* FindArchitecture(std::string_view name);  // null where there is none

// The pattern that a canonical name is an instance of: numbers of layers and experts replaced by placeholders.
[[nodiscard]] std::string PatternOf(std::string_view canonical_name);

[[nodiscard]] Shape TargetShape(const TargetRule& target, const ModelConfiguration& configuration);
// The shape that the rule's canonical tensor (one expert's) must have, vocabulary padding included.
[[nodiscard]] Shape SourceShape(const TensorRule& rule, const ModelConfiguration& configuration);
// Of a target, the shape of the rows it takes from one source tensor: before axes are exchanged or experts stacked.
[[nodiscard]] Shape SelectedShape(const TensorRule& rule, const TargetRule& target, const ModelConfiguration& c);

}  // namespace slipway::engine
