// Falcon: LayerNorm, rotary positions, no biases in linear layers; query_key_value lies group by group as Megatron's
// linear_qkv does. Attention and MLP may stand side by side: behind one norm (7B, 11B), or with a norm each (40B,
// 180B).
#include "worker/engine/model/architectures/config_groups.h"
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/tensor_groups.h"

namespace slipway::engine {
namespace {

using namespace extents;  // NOLINT(google-build-using-namespace)

constexpr std::string_view kMlpNorm = "decoder.layers.{layer}.pre_mlp_layernorm.weight";

constexpr bool SideBySide(const ModelConfiguration& c) { return c.parallel_attention && c.Has(kMlpNorm); }

constexpr Presence kOneAfterTheOther{[](const ModelConfiguration& c) { return !SideBySide(c); }, ""};
constexpr Presence kSideBySide{[](const ModelConfiguration& c) { return SideBySide(c); }, ""};
constexpr Presence kSecondNorm{[](const ModelConfiguration& c) { return !SideBySide(c) && c.Has(kMlpNorm); }, ""};

constexpr TargetRule kEmbedding[] = {{"transformer.word_embeddings.weight", {kVocabulary, kHidden}}};
constexpr TargetRule kAttentionNorm[] = {{"ln_attn.weight", {kHidden}}};
constexpr TargetRule kAttentionNormBias[] = {{"ln_attn.bias", {kHidden}}};
constexpr TargetRule kNormOfMlp[] = {{"ln_mlp.weight", {kHidden}}};
constexpr TargetRule kNormOfMlpBias[] = {{"ln_mlp.bias", {kHidden}}};
constexpr TargetRule kQkv[] = {{"self_attention.query_key_value.weight", {kQkvRows, kHidden}}};
constexpr TargetRule kOutput[] = {{"self_attention.dense.weight", {kHidden, kQueryRows}}};
constexpr TargetRule kUp[] = {{"mlp.dense_h_to_4h.weight", {kFfn, kHidden}}};
constexpr TargetRule kDown[] = {{"mlp.dense_4h_to_h.weight", {kHidden, kFfn}}};
constexpr TargetRule kFinalNorm[] = {{"transformer.ln_f.weight", {kHidden}}};
constexpr TargetRule kFinalNormBias[] = {{"transformer.ln_f.bias", {kHidden}}};

constexpr auto kEmbeddingBlock = std::to_array<TensorRule>({
    {"embedding.word_embeddings.weight", kEmbedding, Transform::kVocabulary},
});

constexpr auto kLayerRules = std::to_array<TensorRule>({
    {"input_layernorm.weight", targets::kInputNorm, Transform::kNorm, kOneAfterTheOther},
    {"input_layernorm.bias", targets::kInputNormBias, Transform::kCopy, kOneAfterTheOther},
    {"input_layernorm.weight", kAttentionNorm, Transform::kNorm, kSideBySide},
    {"input_layernorm.bias", kAttentionNormBias, Transform::kCopy, kSideBySide},
    {"self_attention.linear_qkv.weight", kQkv},
    {"self_attention.linear_proj.weight", kOutput},
    {"pre_mlp_layernorm.weight", targets::kMlpNorm, Transform::kNorm, kSecondNorm},
    {"pre_mlp_layernorm.bias", targets::kMlpNormBias, Transform::kCopy, kSecondNorm},
    {"pre_mlp_layernorm.weight", kNormOfMlp, Transform::kNorm, kSideBySide},
    {"pre_mlp_layernorm.bias", kNormOfMlpBias, Transform::kCopy, kSideBySide},
    {"mlp.linear_fc1.weight", kUp},
    {"mlp.linear_fc2.weight", kDown},
});

constexpr auto kHeadBlock = std::to_array<TensorRule>({
    {"decoder.final_layernorm.weight", kFinalNorm, Transform::kNorm},
    {"decoder.final_layernorm.bias", kFinalNormBias},
    {"output_layer.weight", targets::kHead, Transform::kVocabulary, presences::kUnlessTied},
});

constexpr auto kBlocks = std::to_array<RuleBlock>({
    {Repeat::kOnce, "", "", kEmbeddingBlock},
    {Repeat::kLayers, kDecoderLayers, "transformer.h.{layer}.", kLayerRules},
    {Repeat::kOnce, "", "", kHeadBlock},
});

// Heads of keys and values are counted in the new architecture only; before it was one, or as many as of queries, and
// transformers counts those of queries.
bool HasNewArchitecture(const ModelConfiguration& c) {
  return SideBySide(c) || (c.query_groups != 1 && c.query_groups != c.attention_heads);
}
std::optional<nlohmann::json> KeyValueHeads(const ModelConfiguration& c) {
  return nlohmann::json(HasNewArchitecture(c) ? c.query_groups : c.attention_heads);
}
std::optional<nlohmann::json> IsGrouped(const ModelConfiguration& c) { return nlohmann::json(HasNewArchitecture(c)); }
std::optional<nlohmann::json> IsMultiQuery(const ModelConfiguration& c) {
  return nlohmann::json(c.query_groups != c.attention_heads);
}

constexpr auto kFields = std::to_array<ConfigField>({
    {"activation", Member<&ModelConfiguration::activation>, true},
    {"alibi", Always<false>},
    {"attention_dropout", NoDropout, true},
    {"bias", Always<false>},
    {"ffn_hidden_size", Member<&ModelConfiguration::ffn_hidden_size>},
    {"hidden_dropout", NoDropout, true},
    {"hidden_size", Member<&ModelConfiguration::hidden_size>},
    {"initializer_range", Member<&ModelConfiguration::initializer_range>, true},
    {"layer_norm_epsilon", Member<&ModelConfiguration::norm_epsilon>},
    {"max_position_embeddings", Member<&ModelConfiguration::maximum_positions>, true},
    {"multi_query", IsMultiQuery},
    {"new_decoder_architecture", IsGrouped},
    {"num_attention_heads", Member<&ModelConfiguration::attention_heads>},
    {"num_hidden_layers", Member<&ModelConfiguration::layers>},
    {"num_kv_heads", KeyValueHeads},
    {"parallel_attn", Member<&ModelConfiguration::parallel_attention>},
    {"rope_scaling", RopeScaling},
    {"rope_theta", Member<&ModelConfiguration::rotary_base>},
    {"tie_word_embeddings", Member<&ModelConfiguration::tied_embeddings>},
    {"use_cache", Always<true>, true},
    {"vocab_size", Member<&ModelConfiguration::vocabulary_size>},
});

int Fit(const ModelConfiguration& c) {
  return IsLayerNormDecoder(c) && c.position_embedding == "rope" && c.rotary_percent == 1.0 && !c.linear_bias &&
                 !c.qkv_bias && !c.qk_norm && !c.sliding_window && c.head_dimension * c.attention_heads == c.hidden_size
             ? 2
             : 0;
}

}  // namespace

const Architecture kFalcon = {
    .name = "FalconForCausalLM",
    .model_type = "falcon",
    .summary = "Falcon 7B, 11B, 40B, 180B",
    .blocks = kBlocks,
    .fields = kFields,
    .fit = Fit,
    .proof = Proof::kDerived,
};

}  // namespace slipway::engine
