// Qwen3-VL, dense and with experts, as Megatron-Bridge trains it: Qwen3 for the text; a vision tower of Megatron's own
// layers, ungated, with biases and LayerNorm (never stored minus 1), and mergers of patches behind some of its layers
// and the last. Experts are stacked and transposed, the form that is published and served. Training arguments say
// nothing of the tower: the model's config.json is needed and stays as it is.
#include "worker/engine/model/architectures/config_groups.h"
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/vision_groups.h"

namespace slipway::engine {
namespace {

using namespace extents;  // NOLINT(google-build-using-namespace)

constexpr TargetRule kEmbedding[] = {{"model.language_model.embed_tokens.weight", {kVocabulary, kHidden}}};
constexpr TargetRule kFinalNorm[] = {{"model.language_model.norm.weight", {kHidden}}};
constexpr TargetRule kStackedGateUp[] = {{"mlp.experts.gate_up_proj", {kExperts, kHidden, kTwiceExpertFfn}}};
constexpr TargetRule kStackedDown[] = {{"mlp.experts.down_proj", {kExperts, kExpertFfn, kHidden}}};

constexpr TargetRule kNorm1[] = {{"norm1.weight", {kVisionHidden}}};
constexpr TargetRule kNorm1Bias[] = {{"norm1.bias", {kVisionHidden}}};
constexpr TargetRule kNorm2[] = {{"norm2.weight", {kVisionHidden}}};
constexpr TargetRule kNorm2Bias[] = {{"norm2.bias", {kVisionHidden}}};
constexpr TargetRule kQkv[] = {{"attn.qkv.weight", {kVisionQkvRows, kVisionHidden}}};
constexpr TargetRule kQkvBias[] = {{"attn.qkv.bias", {kVisionQkvRows}}};
constexpr TargetRule kProjection[] = {{"attn.proj.weight", {kVisionHidden, kVisionHidden}}};
constexpr TargetRule kProjectionBias[] = {{"attn.proj.bias", {kVisionHidden}}};
constexpr TargetRule kFc1[] = {{"mlp.linear_fc1.weight", {kVisionFfn, kVisionHidden}}};
constexpr TargetRule kFc1Bias[] = {{"mlp.linear_fc1.bias", {kVisionFfn}}};
constexpr TargetRule kFc2[] = {{"mlp.linear_fc2.weight", {kVisionHidden, kVisionFfn}}};
constexpr TargetRule kFc2Bias[] = {{"mlp.linear_fc2.bias", {kVisionHidden}}};

constexpr TargetRule kMergerNorm[] = {{"norm.weight", {kVisionHidden}}};
constexpr TargetRule kMergerNormBias[] = {{"norm.bias", {kVisionHidden}}};
constexpr TargetRule kMergedNorm[] = {{"norm.weight", {kVisionMerged}}};
constexpr TargetRule kMergedNormBias[] = {{"norm.bias", {kVisionMerged}}};
constexpr TargetRule kMerger1[] = {{"linear_fc1.weight", {kVisionMerged, kVisionMerged}}};
constexpr TargetRule kMerger1Bias[] = {{"linear_fc1.bias", {kVisionMerged}}};
constexpr TargetRule kMerger2[] = {{"linear_fc2.weight", {kVisionOutput, kVisionMerged}}};
constexpr TargetRule kMerger2Bias[] = {{"linear_fc2.bias", {kVisionOutput}}};

constexpr TargetRule kPatchBias[] = {{"patch_embed.proj.bias", {kVisionHidden}}};
constexpr TargetRule kPositionEmbedding[] = {{"pos_embed.weight", {kVisionPositions, kVisionHidden}}};

constexpr auto kTextRules = std::to_array<TensorRule>({
    {"embedding.word_embeddings.weight", kEmbedding, Transform::kVocabulary},
    {"decoder.final_layernorm.weight", kFinalNorm, Transform::kNorm},
    {"output_layer.weight", targets::kHead, Transform::kVocabulary, presences::kUnlessTied},
});

constexpr auto kLayerRules = Concatenate(kAttentionRules, kQkNormRules, kMlpNormRules, kGatedMlpRules);

constexpr auto kExpertLayerRules =
    Concatenate(kLayerRules, kRouterRules,
                std::to_array<TensorRule>({
                    {"mlp.experts.{expert}.linear_fc1.weight", kStackedGateUp, Transform::kCopy, presences::kAlways,
                     Layers::kExperts, Axes::kTransposed},
                    {"mlp.experts.{expert}.linear_fc2.weight", kStackedDown, Transform::kCopy, presences::kAlways,
                     Layers::kExperts, Axes::kTransposed},
                }));

constexpr auto kVisionLayerRules = std::to_array<TensorRule>({
    {"input_layernorm.weight", kNorm1},
    {"input_layernorm.bias", kNorm1Bias},
    {"self_attention.linear_qkv.weight", kQkv, Transform::kVisionQkv},
    {"self_attention.linear_qkv.bias", kQkvBias, Transform::kVisionQkv},
    {"self_attention.linear_proj.weight", kProjection},
    {"self_attention.linear_proj.bias", kProjectionBias},
    {"pre_mlp_layernorm.weight", kNorm2},
    {"pre_mlp_layernorm.bias", kNorm2Bias},
    {"mlp.linear_fc1.weight", kFc1},
    {"mlp.linear_fc1.bias", kFc1Bias},
    {"mlp.linear_fc2.weight", kFc2},
    {"mlp.linear_fc2.bias", kFc2Bias},
});

constexpr auto kMergerLinearRules = std::to_array<TensorRule>({
    {"linear_fc1.weight", kMerger1},
    {"linear_fc1.bias", kMerger1Bias},
    {"linear_fc2.weight", kMerger2},
    {"linear_fc2.bias", kMerger2Bias},
});
// The last one normalizes patches, those before it what has been merged of them.
constexpr auto kLastMergerRules =
    Concatenate(std::to_array<TensorRule>({{"patch_norm.weight", kMergerNorm}, {"patch_norm.bias", kMergerNormBias}}),
                kMergerLinearRules);
constexpr auto kMergerRules =
    Concatenate(std::to_array<TensorRule>({{"patch_norm.weight", kMergedNorm}, {"patch_norm.bias", kMergedNormBias}}),
                kMergerLinearRules);

constexpr auto kPatchRules = std::to_array<TensorRule>({
    {"patch_embed.proj.weight", targets::kPatchEmbedding},
    {"patch_embed.proj.bias", kPatchBias},
    {"pos_embed.weight", kPositionEmbedding},
});

template <const auto& layer_rules>
constexpr std::array kBlocks = std::to_array<RuleBlock>({
    {Repeat::kOnce, "", "", kTextRules},
    {Repeat::kLayers, kDecoderLayers, "model.language_model.layers.{layer}.", layer_rules},
    {Repeat::kOnce, "vision_model.", "model.visual.", kPatchRules},
    {Repeat::kVisionLayers, "vision_model.decoder.layers.{layer}.", "model.visual.blocks.{layer}.", kVisionLayerRules},
    {Repeat::kVisionMergers, "vision_model.decoder.deepstack_merger_list.{layer}.",
     "model.visual.deepstack_merger_list.{layer}.", kMergerRules},
    {Repeat::kOnce, "vision_model.merger.", "model.visual.merger.", kLastMergerRules},
});

int Fit(const ModelConfiguration& c, bool experts) {
  return IsSeeingDecoder(c) && c.vision.positions && c.experts.count.has_value() == experts && RoutesBySoftmax(c) &&
                 c.qk_norm && !c.full_qk_norm && !c.qkv_bias && !c.linear_bias && !c.sliding_window &&
                 !c.experts.shared_ffn_hidden_size
             ? 4
             : 0;
}

}  // namespace

const Architecture kQwen3Vl = {
    .name = "Qwen3VLForConditionalGeneration",
    .model_type = "qwen3_vl",
    .summary = "Qwen3-VL, dense, of Megatron-Bridge; with --hf-config",
    .blocks = kBlocks<kLayerRules>,
    .fields = {},
    .fit = [](const ModelConfiguration& c) { return Fit(c, false); },
    .beyond_arguments = true,
    .proof = Proof::kMegatronBridge,
};

const Architecture kQwen3VlMoe = {
    .name = "Qwen3VLMoeForConditionalGeneration",
    .model_type = "qwen3_vl_moe",
    .summary = "Qwen3-VL with experts, of Megatron-Bridge; with --hf-config",
    .blocks = kBlocks<kExpertLayerRules>,
    .fields = {},
    .fit = [](const ModelConfiguration& c) { return Fit(c, true); },
    .beyond_arguments = true,
    .proof = Proof::kDerived,
};

}  // namespace slipway::engine
