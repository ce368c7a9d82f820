// Extents and groups of rules of layers that are not attention: gated delta nets and Mamba.
#pragma once

#include <array>

#include "worker/engine/model/architectures/extents.h"
#include "worker/engine/model/architectures/tensor_groups.h"

namespace slipway::engine {

namespace extents {

inline constexpr Extent kDeltaValueHeads = [](const Configuration& c) {
  return c.linear_attention.value_heads.value_or(0);
};
inline constexpr Extent kDeltaValueDimension = [](const Configuration& c) {
  return c.linear_attention.value_dimension.value_or(0);
};
inline constexpr Extent kDeltaKeyRows = [](const Configuration& c) {
  return c.linear_attention.key_heads.value_or(0) * c.linear_attention.key_dimension.value_or(0);
};
inline constexpr Extent kDeltaValueRows = [](const Configuration& c) {
  return kDeltaValueHeads(c) * kDeltaValueDimension(c);
};
inline constexpr Extent kDeltaQkvRows = [](const Configuration& c) {
  return 2 * kDeltaKeyRows(c) + kDeltaValueRows(c);
};
inline constexpr Extent kDeltaQkvzRows = [](const Configuration& c) {
  return 2 * kDeltaKeyRows(c) + 2 * kDeltaValueRows(c);
};
inline constexpr Extent kTwiceDeltaValueHeads = [](const Configuration& c) { return 2 * kDeltaValueHeads(c); };
inline constexpr Extent kDeltaKernel = [](const Configuration& c) { return c.linear_attention.kernel.value_or(0); };

inline constexpr Extent kMambaHeads = [](const Configuration& c) { return c.mamba.heads.value_or(0); };
inline constexpr Extent kMambaRows = [](const Configuration& c) {
  return kMambaHeads(c) * c.mamba.head_dimension.value_or(0);
};
inline constexpr Extent kMambaConvolutionRows = [](const Configuration& c) {
  return kMambaRows(c) + 2 * c.mamba.groups.value_or(0) * c.mamba.state_dimension.value_or(0);
};
inline constexpr Extent kMambaInputRows = [](const Configuration& c) {
  return kMambaRows(c) + kMambaConvolutionRows(c) + kMambaHeads(c);
};
inline constexpr Extent kMambaKernel = [](const Configuration& c) { return c.mamba.kernel.value_or(0); };

}  // namespace extents

namespace targets {

inline constexpr TargetRule kGatedQkv[] = {{"self_attn.q_proj.weight", {kGatedQueryRows, kHidden}},
                                           {"self_attn.k_proj.weight", {kKeyValueRows, kHidden}},
                                           {"self_attn.v_proj.weight", {kKeyValueRows, kHidden}}};

inline constexpr TargetRule kDeltaConvolution[] = {{"linear_attn.conv1d.weight", {kDeltaQkvRows, kOne, kDeltaKernel}}};
inline constexpr TargetRule kDeltaDecay[] = {{"linear_attn.A_log", {kDeltaValueHeads}}};
inline constexpr TargetRule kDeltaStep[] = {{"linear_attn.dt_bias", {kDeltaValueHeads}}};
inline constexpr TargetRule kDeltaNorm[] = {{"linear_attn.norm.weight", {kDeltaValueDimension}}};
inline constexpr TargetRule kDeltaOutput[] = {{"linear_attn.out_proj.weight", {kHidden, kDeltaValueRows}}};

inline constexpr TargetRule kMambaInput[] = {{"mixer.in_proj.weight", {kMambaInputRows, kHidden}}};
inline constexpr TargetRule kMambaConvolution[] = {
    {"mixer.conv1d.weight", {kMambaConvolutionRows, kOne, kMambaKernel}}};
inline constexpr TargetRule kMambaConvolutionBias[] = {{"mixer.conv1d.bias", {kMambaConvolutionRows}}};
inline constexpr TargetRule kMambaDecay[] = {{"mixer.A_log", {kMambaHeads}}};
inline constexpr TargetRule kMambaSkip[] = {{"mixer.D", {kMambaHeads}}};
inline constexpr TargetRule kMambaStep[] = {{"mixer.dt_bias", {kMambaHeads}}};
inline constexpr TargetRule kMambaNorm[] = {{"mixer.norm.weight", {kMambaRows}}};
inline constexpr TargetRule kMambaOutput[] = {{"mixer.out_proj.weight", {kHidden, kMambaRows}}};

inline constexpr TargetRule kPredictionProjection[] = {{"fc.weight", {kHidden, kTwiceHidden}}};
inline constexpr TargetRule kPredictionEmbeddingNorm[] = {{"pre_fc_norm_embedding.weight", {kHidden}}};
inline constexpr TargetRule kPredictionHiddenNorm[] = {{"pre_fc_norm_hidden.weight", {kHidden}}};
inline constexpr TargetRule kPredictionNorm[] = {{"norm.weight", {kHidden}}};

}  // namespace targets

// Attention with gated queries in some layers.
inline constexpr std::array kGatedAttentionRules = std::to_array<TensorRule>({
    {"input_layernorm.weight", targets::kInputNorm, Transform::kNorm},
    {"self_attention.linear_qkv.weight", targets::kGatedQkv, Transform::kQkvGated, presences::kAlways,
     Layers::kAttention},
    {"self_attention.linear_proj.weight", targets::kOutput, Transform::kCopy, presences::kAlways, Layers::kAttention},
    {"self_attention.q_layernorm.weight", targets::kQueryNorm, Transform::kNorm, presences::kAlways,
     Layers::kAttention},
    {"self_attention.k_layernorm.weight", targets::kKeyNorm, Transform::kNorm, presences::kAlways, Layers::kAttention},
});

// Gated delta nets in the others, but for in_proj, which families spell differently. The output's norm is an ordinary
// one in Hugging Face, whatever the others are.
inline constexpr std::array kDeltaNetRules = std::to_array<TensorRule>({
    {"self_attention.conv1d.weight", targets::kDeltaConvolution, Transform::kCopy, presences::kAlways,
     Layers::kLinearAttention},
    {"self_attention.A_log", targets::kDeltaDecay, Transform::kCopy, presences::kAlways, Layers::kLinearAttention,
     Axes::kAsStored, true},
    {"self_attention.dt_bias", targets::kDeltaStep, Transform::kCopy, presences::kAlways, Layers::kLinearAttention,
     Axes::kAsStored, true},
    {"self_attention.out_norm.weight", targets::kDeltaNorm, Transform::kPlainNorm, presences::kAlways,
     Layers::kLinearAttention},
    {"self_attention.out_proj.weight", targets::kDeltaOutput, Transform::kCopy, presences::kAlways,
     Layers::kLinearAttention},
});

inline constexpr std::array kMambaRules = std::to_array<TensorRule>({
    {"mixer.in_proj.weight", targets::kMambaInput, Transform::kCopy, presences::kAlways, Layers::kMamba},
    {"mixer.conv1d.weight", targets::kMambaConvolution, Transform::kCopy, presences::kAlways, Layers::kMamba},
    {"mixer.conv1d.bias", targets::kMambaConvolutionBias, Transform::kCopy, presences::kIfStored, Layers::kMamba},
    {"mixer.A_log", targets::kMambaDecay, Transform::kCopy, presences::kAlways, Layers::kMamba, Axes::kAsStored, true},
    {"mixer.D", targets::kMambaSkip, Transform::kCopy, presences::kAlways, Layers::kMamba, Axes::kAsStored, true},
    {"mixer.dt_bias", targets::kMambaStep, Transform::kCopy, presences::kAlways, Layers::kMamba, Axes::kAsStored, true},
    {"mixer.norm.weight", targets::kMambaNorm, Transform::kCopy, presences::kAlways, Layers::kMamba},
    {"mixer.out_proj.weight", targets::kMambaOutput, Transform::kCopy, presences::kAlways, Layers::kMamba},
});

// What is around the layer inside Qwen's only prediction layer.
inline constexpr std::array kQwenPredictionRules = std::to_array<TensorRule>({
    {"eh_proj.weight", targets::kPredictionProjection},
    {"enorm.weight", targets::kPredictionEmbeddingNorm, Transform::kNorm},
    {"hnorm.weight", targets::kPredictionHiddenNorm, Transform::kNorm},
    {"final_layernorm.weight", targets::kPredictionNorm, Transform::kNorm},
});

inline constexpr std::string_view kPredictionLayer = "mtp.layers.{layer}.";
inline constexpr std::string_view kLayerInPrediction = "mtp.layers.{layer}.transformer_layer.";

// Blocks of Qwen's families with gated delta nets.
template <const auto& layer_rules, const auto& prediction_rules>
inline constexpr std::array kQwenHybridBlocks = std::to_array<RuleBlock>({
    {Repeat::kOnce, "", "", kEmbeddingRules},
    {Repeat::kLayers, kDecoderLayers, kModelLayers, layer_rules},
    {Repeat::kOnce, "", "", kHeadRules},
    {Repeat::kPredictionLayers, kPredictionLayer, "mtp.", kQwenPredictionRules},
    {Repeat::kPredictionLayers, kLayerInPrediction, kPredictionLayer, prediction_rules},
});

}  // namespace slipway::engine
