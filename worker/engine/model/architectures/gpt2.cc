// GPT-2: LayerNorm, learned positions, plain GELU, biases everywhere; weights of Conv1D, which lie transposed.
#include "worker/engine/model/architectures/config_groups.h"
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/tensor_groups.h"

namespace slipway::engine {
namespace {

using namespace extents;  // NOLINT(google-build-using-namespace)
using presences::kAlways;

constexpr TargetRule kEmbedding[] = {{"wte.weight", {kVocabulary, kHidden}}};
constexpr TargetRule kPositionEmbedding[] = {{"wpe.weight", {kPositions, kHidden}}};
constexpr TargetRule kNorm1[] = {{"ln_1.weight", {kHidden}}};
constexpr TargetRule kNorm1Bias[] = {{"ln_1.bias", {kHidden}}};
constexpr TargetRule kNorm2[] = {{"ln_2.weight", {kHidden}}};
constexpr TargetRule kNorm2Bias[] = {{"ln_2.bias", {kHidden}}};
constexpr TargetRule kQkv[] = {{"attn.c_attn.weight", {kHidden, kQkvRows}}};
constexpr TargetRule kQkvBias[] = {{"attn.c_attn.bias", {kQkvRows}}};
constexpr TargetRule kOutput[] = {{"attn.c_proj.weight", {kQueryRows, kHidden}}};
constexpr TargetRule kOutputBias[] = {{"attn.c_proj.bias", {kHidden}}};
constexpr TargetRule kUp[] = {{"mlp.c_fc.weight", {kHidden, kFfn}}};
constexpr TargetRule kUpBias[] = {{"mlp.c_fc.bias", {kFfn}}};
constexpr TargetRule kDown[] = {{"mlp.c_proj.weight", {kFfn, kHidden}}};
constexpr TargetRule kDownBias[] = {{"mlp.c_proj.bias", {kHidden}}};
constexpr TargetRule kFinalNorm[] = {{"ln_f.weight", {kHidden}}};
constexpr TargetRule kFinalNormBias[] = {{"ln_f.bias", {kHidden}}};
constexpr TargetRule kHead[] = {{"lm_head.weight", {kVocabulary, kHidden}}};

constexpr auto kEmbeddingBlock = std::to_array<TensorRule>({
    {"embedding.word_embeddings.weight", kEmbedding, Transform::kVocabulary},
    {"embedding.position_embeddings.weight", kPositionEmbedding},
});

constexpr auto kLayerRules = std::to_array<TensorRule>({
    {"input_layernorm.weight", kNorm1, Transform::kNorm},
    {"input_layernorm.bias", kNorm1Bias},
    {"self_attention.linear_qkv.weight", kQkv, Transform::kQkvJoined, kAlways, Layers::kAll, Axes::kTransposed},
    {"self_attention.linear_qkv.bias", kQkvBias, Transform::kQkvJoined},
    {"self_attention.linear_proj.weight", kOutput, Transform::kCopy, kAlways, Layers::kAll, Axes::kTransposed},
    {"self_attention.linear_proj.bias", kOutputBias},
    {"pre_mlp_layernorm.weight", kNorm2, Transform::kNorm},
    {"pre_mlp_layernorm.bias", kNorm2Bias},
    {"mlp.linear_fc1.weight", kUp, Transform::kCopy, kAlways, Layers::kAll, Axes::kTransposed},
    {"mlp.linear_fc1.bias", kUpBias},
    {"mlp.linear_fc2.weight", kDown, Transform::kCopy, kAlways, Layers::kAll, Axes::kTransposed},
    {"mlp.linear_fc2.bias", kDownBias},
});

constexpr auto kFinalBlock = std::to_array<TensorRule>({
    {"decoder.final_layernorm.weight", kFinalNorm, Transform::kNorm},
    {"decoder.final_layernorm.bias", kFinalNormBias},
});

constexpr auto kHeadBlock = std::to_array<TensorRule>({
    {"output_layer.weight", kHead, Transform::kVocabulary, presences::kUnlessTied},
});

constexpr auto kBlocks = std::to_array<RuleBlock>({
    {Repeat::kOnce, "", "transformer.", kEmbeddingBlock},
    {Repeat::kLayers, kDecoderLayers, "transformer.h.{layer}.", kLayerRules},
    {Repeat::kOnce, "", "transformer.", kFinalBlock},
    {Repeat::kOnce, "", "", kHeadBlock},
});

constexpr auto kFields = std::to_array<ConfigField>({
    {"activation_function", Member<&ModelConfiguration::activation>},
    {"attn_pdrop", AlwaysRatio<0, 1>, true},
    {"embd_pdrop", AlwaysRatio<0, 1>, true},
    {"initializer_range", Member<&ModelConfiguration::initializer_range>, true},
    {"layer_norm_epsilon", Member<&ModelConfiguration::norm_epsilon>},
    {"n_embd", Member<&ModelConfiguration::hidden_size>},
    {"n_head", Member<&ModelConfiguration::attention_heads>},
    {"n_inner", Member<&ModelConfiguration::ffn_hidden_size>},
    {"n_layer", Member<&ModelConfiguration::layers>},
    {"n_positions", Member<&ModelConfiguration::maximum_positions>},
    {"resid_pdrop", AlwaysRatio<0, 1>, true},
    {"tie_word_embeddings", Member<&ModelConfiguration::tied_embeddings>},
    {"use_cache", Always<true>, true},
    {"vocab_size", Member<&ModelConfiguration::vocabulary_size>},
});

int Fit(const ModelConfiguration& c) {
  return IsLayerNormDecoder(c) && c.position_embedding == "learned_absolute" && c.linear_bias && !c.qk_norm &&
                 !c.sliding_window && c.query_groups == c.attention_heads &&
                 c.head_dimension * c.attention_heads == c.hidden_size
             ? 3
             : 0;
}

}  // namespace

const Architecture kGpt2 = {
    .name = "GPT2LMHeadModel",
    .model_type = "gpt2",
    .summary = "GPT-2 and GPT-3-like models with learned positions",
    .blocks = kBlocks,
    .fields = kFields,
    .fit = Fit,
};

}  // namespace slipway::engine
