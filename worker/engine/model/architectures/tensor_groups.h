// Groups of rules that decoder families share; a family's table is a concatenation of some.
#pragma once

#include <array>
#include <cstddef>

#include "worker/engine/model/architecture.h"

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

namespace targets {

using enum Extent;

inline constexpr TargetRule kEmbedding[] = {{"model.embed_tokens.weight", kVocabulary, kHidden}};
inline constexpr TargetRule kInputNorm[] = {{"model.layers.{layer}.input_layernorm.weight", kHidden}};
inline constexpr TargetRule kQkv[] = {{"model.layers.{layer}.self_attn.q_proj.weight", kQueryRows, kHidden},
                                      {"model.layers.{layer}.self_attn.k_proj.weight", kKeyValueRows, kHidden},
                                      {"model.layers.{layer}.self_attn.v_proj.weight", kKeyValueRows, kHidden}};
inline constexpr TargetRule kQkvBias[] = {{"model.layers.{layer}.self_attn.q_proj.bias", kQueryRows},
                                          {"model.layers.{layer}.self_attn.k_proj.bias", kKeyValueRows},
                                          {"model.layers.{layer}.self_attn.v_proj.bias", kKeyValueRows}};
inline constexpr TargetRule kQueryNorm[] = {{"model.layers.{layer}.self_attn.q_norm.weight", kHeadDimension}};
inline constexpr TargetRule kKeyNorm[] = {{"model.layers.{layer}.self_attn.k_norm.weight", kHeadDimension}};
inline constexpr TargetRule kOutput[] = {{"model.layers.{layer}.self_attn.o_proj.weight", kHidden, kQueryRows}};
inline constexpr TargetRule kOutputBias[] = {{"model.layers.{layer}.self_attn.o_proj.bias", kHidden}};
inline constexpr TargetRule kMlpNorm[] = {{"model.layers.{layer}.post_attention_layernorm.weight", kHidden}};
inline constexpr TargetRule kGateUp[] = {{"model.layers.{layer}.mlp.gate_proj.weight", kFfn, kHidden},
                                         {"model.layers.{layer}.mlp.up_proj.weight", kFfn, kHidden}};
inline constexpr TargetRule kGateUpBias[] = {{"model.layers.{layer}.mlp.gate_proj.bias", kFfn},
                                             {"model.layers.{layer}.mlp.up_proj.bias", kFfn}};
inline constexpr TargetRule kDown[] = {{"model.layers.{layer}.mlp.down_proj.weight", kHidden, kFfn}};
inline constexpr TargetRule kDownBias[] = {{"model.layers.{layer}.mlp.down_proj.bias", kHidden}};
inline constexpr TargetRule kFinalNorm[] = {{"model.norm.weight", kHidden}};
inline constexpr TargetRule kHead[] = {{"lm_head.weight", kVocabulary, kHidden}};

}  // namespace targets

inline constexpr std::array kEmbeddingRules = std::to_array<TensorRule>({
    {"embedding.word_embeddings.weight", targets::kEmbedding, Transform::kVocabulary},
});

inline constexpr std::array kAttentionRules = std::to_array<TensorRule>({
    {"decoder.layers.{layer}.input_layernorm.weight", targets::kInputNorm, Transform::kNorm},
    {"decoder.layers.{layer}.self_attention.linear_qkv.weight", targets::kQkv, Transform::kQkv},
    {"decoder.layers.{layer}.self_attention.linear_proj.weight", targets::kOutput, Transform::kCopy},
});

inline constexpr std::array kQkvBiasRules = std::to_array<TensorRule>({
    {"decoder.layers.{layer}.self_attention.linear_qkv.bias", targets::kQkvBias, Transform::kQkv, Presence::kIfQkvBias},
});

inline constexpr std::array kQkNormRules = std::to_array<TensorRule>({
    {"decoder.layers.{layer}.self_attention.q_layernorm.weight", targets::kQueryNorm, Transform::kNorm,
     Presence::kIfQkNorm},
    {"decoder.layers.{layer}.self_attention.k_layernorm.weight", targets::kKeyNorm, Transform::kNorm,
     Presence::kIfQkNorm},
});

inline constexpr std::array kGatedMlpRules = std::to_array<TensorRule>({
    {"decoder.layers.{layer}.pre_mlp_layernorm.weight", targets::kMlpNorm, Transform::kNorm},
    {"decoder.layers.{layer}.mlp.linear_fc1.weight", targets::kGateUp, Transform::kGated},
    {"decoder.layers.{layer}.mlp.linear_fc2.weight", targets::kDown, Transform::kCopy},
});

inline constexpr std::array kLinearBiasRules = std::to_array<TensorRule>({
    {"decoder.layers.{layer}.self_attention.linear_proj.bias", targets::kOutputBias, Transform::kCopy,
     Presence::kIfLinearBias},
    {"decoder.layers.{layer}.mlp.linear_fc1.bias", targets::kGateUpBias, Transform::kGated, Presence::kIfLinearBias},
    {"decoder.layers.{layer}.mlp.linear_fc2.bias", targets::kDownBias, Transform::kCopy, Presence::kIfLinearBias},
});

inline constexpr std::array kHeadRules = std::to_array<TensorRule>({
    {"decoder.final_layernorm.weight", targets::kFinalNorm, Transform::kNorm},
    {"output_layer.weight", targets::kHead, Transform::kVocabulary, Presence::kUnlessTied},
});

}  // namespace slipway::engine
