// GPT-NeoX (Pythia): LayerNorm, partial rotary positions, biases everywhere. Its query_key_value lies head by head as
// Megatron's linear_qkv does.
#include "worker/engine/model/architectures/config_groups.h"
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/tensor_groups.h"

namespace slipway::engine {
namespace {

using namespace extents;  // NOLINT(google-build-using-namespace)

constexpr TargetRule kEmbedding[] = {{"gpt_neox.embed_in.weight", {kVocabulary, kHidden}}};
constexpr TargetRule kQkv[] = {{"attention.query_key_value.weight", {kQkvRows, kHidden}}};
constexpr TargetRule kQkvBias[] = {{"attention.query_key_value.bias", {kQkvRows}}};
constexpr TargetRule kOutput[] = {{"attention.dense.weight", {kHidden, kQueryRows}}};
constexpr TargetRule kOutputBias[] = {{"attention.dense.bias", {kHidden}}};
constexpr TargetRule kUp[] = {{"mlp.dense_h_to_4h.weight", {kFfn, kHidden}}};
constexpr TargetRule kUpBias[] = {{"mlp.dense_h_to_4h.bias", {kFfn}}};
constexpr TargetRule kDown[] = {{"mlp.dense_4h_to_h.weight", {kHidden, kFfn}}};
constexpr TargetRule kDownBias[] = {{"mlp.dense_4h_to_h.bias", {kHidden}}};
constexpr TargetRule kFinalNorm[] = {{"gpt_neox.final_layer_norm.weight", {kHidden}}};
constexpr TargetRule kFinalNormBias[] = {{"gpt_neox.final_layer_norm.bias", {kHidden}}};
constexpr TargetRule kHead[] = {{"embed_out.weight", {kVocabulary, kHidden}}};

constexpr auto kEmbeddingBlock = std::to_array<TensorRule>({
    {"embedding.word_embeddings.weight", kEmbedding, Transform::kVocabulary},
});

constexpr auto kLayerRules = std::to_array<TensorRule>({
    {"input_layernorm.weight", targets::kInputNorm, Transform::kNorm},
    {"input_layernorm.bias", targets::kInputNormBias},
    {"self_attention.linear_qkv.weight", kQkv},
    {"self_attention.linear_qkv.bias", kQkvBias},
    {"self_attention.linear_proj.weight", kOutput},
    {"self_attention.linear_proj.bias", kOutputBias},
    {"pre_mlp_layernorm.weight", targets::kMlpNorm, Transform::kNorm},
    {"pre_mlp_layernorm.bias", targets::kMlpNormBias},
    {"mlp.linear_fc1.weight", kUp},
    {"mlp.linear_fc1.bias", kUpBias},
    {"mlp.linear_fc2.weight", kDown},
    {"mlp.linear_fc2.bias", kDownBias},
});

constexpr auto kHeadBlock = std::to_array<TensorRule>({
    {"decoder.final_layernorm.weight", kFinalNorm, Transform::kNorm},
    {"decoder.final_layernorm.bias", kFinalNormBias},
    {"output_layer.weight", kHead, Transform::kVocabulary, presences::kUnlessTied},
});

constexpr auto kBlocks = std::to_array<RuleBlock>({
    {Repeat::kOnce, "", "", kEmbeddingBlock},
    {Repeat::kLayers, kDecoderLayers, "gpt_neox.layers.{layer}.", kLayerRules},
    {Repeat::kOnce, "", "", kHeadBlock},
});

constexpr auto kFields = std::to_array<ConfigField>({
    {"attention_bias", Always<true>},
    {"attention_dropout", NoDropout, true},
    {"hidden_act", Member<&ModelConfiguration::activation>},
    {"hidden_dropout", NoDropout, true},
    {"hidden_size", Member<&ModelConfiguration::hidden_size>},
    {"initializer_range", Member<&ModelConfiguration::initializer_range>, true},
    {"intermediate_size", Member<&ModelConfiguration::ffn_hidden_size>},
    {"layer_norm_eps", Member<&ModelConfiguration::norm_epsilon>},
    {"max_position_embeddings", Member<&ModelConfiguration::maximum_positions>},
    {"num_attention_heads", Member<&ModelConfiguration::attention_heads>},
    {"num_hidden_layers", Member<&ModelConfiguration::layers>},
    {"rope_parameters", PartialRope},
    {"rope_theta", Member<&ModelConfiguration::rotary_base>},
    {"rotary_emb_base", Member<&ModelConfiguration::rotary_base>},
    {"rotary_pct", Member<&ModelConfiguration::rotary_percent>},
    {"tie_word_embeddings", Member<&ModelConfiguration::tied_embeddings>},
    {"use_cache", Always<true>, true},
    {"use_parallel_residual", Member<&ModelConfiguration::parallel_attention>},
    {"vocab_size", Member<&ModelConfiguration::vocabulary_size>},
});

// With rotary positions over whole heads StarCoder2 describes the model as well.
int Fit(const ModelConfiguration& c) {
  if (!IsLayerNormDecoder(c) || c.position_embedding != "rope" || !c.linear_bias || c.qk_norm || c.sliding_window ||
      c.query_groups != c.attention_heads || c.head_dimension * c.attention_heads != c.hidden_size) {
    return 0;
  }
  return c.rotary_percent < 1.0 ? 2 : 1;
}

}  // namespace

const Architecture kGptNeoX = {
    .name = "GPTNeoXForCausalLM",
    .model_type = "gpt_neox",
    .summary = "GPT-NeoX, Pythia",
    .blocks = kBlocks,
    .fields = kFields,
    .fit = Fit,
    .proof = Proof::kDerived,
};

}  // namespace slipway::engine
