// Groups of rules that decoder families share; a family's block of layers is a concatenation of some. Names are
// relative to the block's prefixes: "decoder.layers.{layer}." and, mostly, "model.layers.{layer}.".
#pragma once

#include <array>
#include <cstddef>

#include "worker/engine/model/architecture.h"
#include "worker/engine/model/architectures/extents.h"

namespace slipway::engine {

template <std::size_t... sizes>
consteval auto Concatenate(const std::array<TensorRule, sizes>&... groups) {
  std::array<TensorRule, (sizes + ...)> all{};
  std::size_t next = 0;
  const auto append = [&](const auto& group) {
    for (const TensorRule& rule : group) {
      all[next++] = rule;
    }
  };
  (append(groups), ...);
  return all;
}

inline constexpr std::string_view kDecoderLayers = "decoder.layers.{layer}.";
inline constexpr std::string_view kModelLayers = "model.layers.{layer}.";

namespace targets {

using namespace extents;  // NOLINT(google-build-using-namespace): the tables' words

inline constexpr TargetRule kEmbedding[] = {{"model.embed_tokens.weight", {kVocabulary, kHidden}}};
inline constexpr TargetRule kFinalNorm[] = {{"model.norm.weight", {kHidden}}};
inline constexpr TargetRule kFinalNormBias[] = {{"model.norm.bias", {kHidden}}};
inline constexpr TargetRule kHead[] = {{"lm_head.weight", {kVocabulary, kHidden}}};

inline constexpr TargetRule kInputNorm[] = {{"input_layernorm.weight", {kHidden}}};
inline constexpr TargetRule kInputNormBias[] = {{"input_layernorm.bias", {kHidden}}};
inline constexpr TargetRule kQkv[] = {{"self_attn.q_proj.weight", {kQueryRows, kHidden}},
                                      {"self_attn.k_proj.weight", {kKeyValueRows, kHidden}},
                                      {"self_attn.v_proj.weight", {kKeyValueRows, kHidden}}};
inline constexpr TargetRule kQkvBias[] = {{"self_attn.q_proj.bias", {kQueryRows}},
                                          {"self_attn.k_proj.bias", {kKeyValueRows}},
                                          {"self_attn.v_proj.bias", {kKeyValueRows}}};
inline constexpr TargetRule kQueryNorm[] = {{"self_attn.q_norm.weight", {kHeadDimension}}};
inline constexpr TargetRule kKeyNorm[] = {{"self_attn.k_norm.weight", {kHeadDimension}}};
inline constexpr TargetRule kOutput[] = {{"self_attn.o_proj.weight", {kHidden, kQueryRows}}};
inline constexpr TargetRule kOutputBias[] = {{"self_attn.o_proj.bias", {kHidden}}};
inline constexpr TargetRule kMlpNorm[] = {{"post_attention_layernorm.weight", {kHidden}}};
inline constexpr TargetRule kMlpNormBias[] = {{"post_attention_layernorm.bias", {kHidden}}};
inline constexpr TargetRule kGateUp[] = {{"mlp.gate_proj.weight", {kFfn, kHidden}},
                                         {"mlp.up_proj.weight", {kFfn, kHidden}}};
inline constexpr TargetRule kGateUpBias[] = {{"mlp.gate_proj.bias", {kFfn}}, {"mlp.up_proj.bias", {kFfn}}};
inline constexpr TargetRule kUp[] = {{"mlp.up_proj.weight", {kFfn, kHidden}}};
inline constexpr TargetRule kDown[] = {{"mlp.down_proj.weight", {kHidden, kFfn}}};
inline constexpr TargetRule kDownBias[] = {{"mlp.down_proj.bias", {kHidden}}};

inline constexpr TargetRule kRouter[] = {{"mlp.gate.weight", {kExperts, kHidden}}};
inline constexpr TargetRule kExpertGateUp[] = {{"mlp.experts.{expert}.gate_proj.weight", {kExpertFfn, kHidden}},
                                               {"mlp.experts.{expert}.up_proj.weight", {kExpertFfn, kHidden}}};
inline constexpr TargetRule kExpertDown[] = {{"mlp.experts.{expert}.down_proj.weight", {kHidden, kExpertFfn}}};

inline constexpr TargetRule kSharedExpertGateUp[] = {{"mlp.shared_expert.gate_proj.weight", {kSharedFfn, kHidden}},
                                                     {"mlp.shared_expert.up_proj.weight", {kSharedFfn, kHidden}}};
inline constexpr TargetRule kSharedExpertDown[] = {{"mlp.shared_expert.down_proj.weight", {kHidden, kSharedFfn}}};
inline constexpr TargetRule kSharedExpertGate[] = {{"mlp.shared_expert_gate.weight", {kOne, kHidden}}};
inline constexpr TargetRule kSharedExpertsGateUp[] = {{"mlp.shared_experts.gate_proj.weight", {kSharedFfn, kHidden}},
                                                      {"mlp.shared_experts.up_proj.weight", {kSharedFfn, kHidden}}};
inline constexpr TargetRule kSharedExpertsDown[] = {{"mlp.shared_experts.down_proj.weight", {kHidden, kSharedFfn}}};
inline constexpr TargetRule kExpertBias[] = {{"mlp.gate.e_score_correction_bias", {kExperts}}};

}  // namespace targets

inline constexpr std::array kEmbeddingRules = std::to_array<TensorRule>({
    {"embedding.word_embeddings.weight", targets::kEmbedding, Transform::kVocabulary},
});

inline constexpr std::array kHeadRules = std::to_array<TensorRule>({
    {"decoder.final_layernorm.weight", targets::kFinalNorm, Transform::kNorm},
    {"output_layer.weight", targets::kHead, Transform::kVocabulary, presences::kUnlessTied},
});

inline constexpr std::array kBiasedHeadRules = std::to_array<TensorRule>({
    {"decoder.final_layernorm.weight", targets::kFinalNorm, Transform::kNorm},
    {"decoder.final_layernorm.bias", targets::kFinalNormBias},
    {"output_layer.weight", targets::kHead, Transform::kVocabulary, presences::kUnlessTied},
});

inline constexpr std::array kAttentionRules = std::to_array<TensorRule>({
    {"input_layernorm.weight", targets::kInputNorm, Transform::kNorm},
    {"self_attention.linear_qkv.weight", targets::kQkv, Transform::kQkv},
    {"self_attention.linear_proj.weight", targets::kOutput, Transform::kCopy},
});

inline constexpr std::array kQkvBiasRules = std::to_array<TensorRule>({
    {"self_attention.linear_qkv.bias", targets::kQkvBias, Transform::kQkv, presences::kIfQkvBias},
});

inline constexpr std::array kQkNormRules = std::to_array<TensorRule>({
    {"self_attention.q_layernorm.weight", targets::kQueryNorm, Transform::kNorm, presences::kIfQkNorm},
    {"self_attention.k_layernorm.weight", targets::kKeyNorm, Transform::kNorm, presences::kIfQkNorm},
});

inline constexpr std::array kMlpNormRules = std::to_array<TensorRule>({
    {"pre_mlp_layernorm.weight", targets::kMlpNorm, Transform::kNorm},
});

// LayerNorm's biases.
inline constexpr std::array kNormBiasRules = std::to_array<TensorRule>({
    {"input_layernorm.bias", targets::kInputNormBias},
    {"pre_mlp_layernorm.bias", targets::kMlpNormBias},
});

// A gated MLP, in the layers that have no experts.
inline constexpr std::array kGatedMlpRules = std::to_array<TensorRule>({
    {"mlp.linear_fc1.weight", targets::kGateUp, Transform::kSplit, presences::kAlways, Layers::kDense},
    {"mlp.linear_fc2.weight", targets::kDown, Transform::kCopy, presences::kAlways, Layers::kDense},
});

inline constexpr std::array kLinearBiasRules = std::to_array<TensorRule>({
    {"self_attention.linear_proj.bias", targets::kOutputBias, Transform::kCopy, presences::kIfLinearBias},
    {"mlp.linear_fc1.bias", targets::kGateUpBias, Transform::kSplit, presences::kIfLinearBias, Layers::kDense},
    {"mlp.linear_fc2.bias", targets::kDownBias, Transform::kCopy, presences::kIfLinearBias, Layers::kDense},
});

// Router and gated experts under the names that most families use.
inline constexpr std::array kRouterRules = std::to_array<TensorRule>({
    {"mlp.router.weight", targets::kRouter, Transform::kCopy, presences::kAlways, Layers::kExperts},
});

inline constexpr std::array kExpertRules = std::to_array<TensorRule>({
    {"mlp.experts.{expert}.linear_fc1.weight", targets::kExpertGateUp, Transform::kSplit, presences::kAlways,
     Layers::kExperts},
    {"mlp.experts.{expert}.linear_fc2.weight", targets::kExpertDown, Transform::kCopy, presences::kAlways,
     Layers::kExperts},
});

// A shared expert beside the others: one with a gate of its own (Qwen), ...
inline constexpr std::array kGatedSharedExpertRules = std::to_array<TensorRule>({
    {"mlp.shared_experts.linear_fc1.weight", targets::kSharedExpertGateUp, Transform::kSplit,
     presences::kIfSharedExperts, Layers::kExperts},
    {"mlp.shared_experts.linear_fc2.weight", targets::kSharedExpertDown, Transform::kCopy, presences::kIfSharedExperts,
     Layers::kExperts},
    {"mlp.shared_experts.gate_weight", targets::kSharedExpertGate, Transform::kCopy, presences::kIfSharedExperts,
     Layers::kExperts},
});

// ... and one or several joined into one (DeepSeek).
inline constexpr std::array kSharedExpertsRules = std::to_array<TensorRule>({
    {"mlp.shared_experts.linear_fc1.weight", targets::kSharedExpertsGateUp, Transform::kSplit,
     presences::kIfSharedExperts, Layers::kExperts},
    {"mlp.shared_experts.linear_fc2.weight", targets::kSharedExpertsDown, Transform::kCopy, presences::kIfSharedExperts,
     Layers::kExperts},
});

// The router's bias by which experts are chosen (not weighed).
inline constexpr std::array kExpertBiasRules = std::to_array<TensorRule>({
    {"mlp.router.expert_bias", targets::kExpertBias, Transform::kCopy, presences::kIfStored, Layers::kExperts,
     Axes::kAsStored, true},
});

// Blocks of a decoder whose names are Llama's but for its layers.
template <const auto& layer_rules>
inline constexpr std::array kDecoderBlocks = std::to_array<RuleBlock>({
    {Repeat::kOnce, "", "", kEmbeddingRules},
    {Repeat::kLayers, kDecoderLayers, kModelLayers, layer_rules},
    {Repeat::kOnce, "", "", kHeadRules},
});

// The same with LayerNorm.
template <const auto& layer_rules>
inline constexpr std::array kBiasedDecoderBlocks = std::to_array<RuleBlock>({
    {Repeat::kOnce, "", "", kEmbeddingRules},
    {Repeat::kLayers, kDecoderLayers, kModelLayers, layer_rules},
    {Repeat::kOnce, "", "", kBiasedHeadRules},
});

}  // namespace slipway::engine
