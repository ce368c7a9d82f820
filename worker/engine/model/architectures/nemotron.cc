// Nemotron-4 and Minitron: layer norms with bias that compute 1 + gamma, ungated MLPs with squared ReLU.
#include "worker/engine/model/architectures/config_groups.h"
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/tensor_groups.h"

namespace slipway::engine {
namespace {

constexpr auto kLayerRules =
    Concatenate(kAttentionRules, kMlpNormRules,
                std::to_array<TensorRule>({
                    {"input_layernorm.bias", targets::kInputNormBias},
                    {"pre_mlp_layernorm.bias", targets::kMlpNormBias},
                    {"mlp.linear_fc1.weight", targets::kUp, Transform::kCopy, presences::kAlways, Layers::kDense},
                    {"mlp.linear_fc2.weight", targets::kDown, Transform::kCopy, presences::kAlways, Layers::kDense},
                }));

constexpr auto kFinalNormBiasRules =
    std::to_array<TensorRule>({{"decoder.final_layernorm.bias", targets::kFinalNormBias}});

constexpr auto kBlocks = std::to_array<RuleBlock>({
    {Repeat::kOnce, "", "", kEmbeddingRules},
    {Repeat::kLayers, kDecoderLayers, kModelLayers, kLayerRules},
    {Repeat::kOnce, "", "", kFinalNormBiasRules},
    {Repeat::kOnce, "", "", kHeadRules},
});

constexpr auto kFields = std::to_array<ConfigField>({
    {"attention_bias", Always<false>},
    {"attention_dropout", NoDropout, true},
    {"head_dim", Member<&ModelConfiguration::head_dimension>},
    {"hidden_act", Member<&ModelConfiguration::activation>},
    {"hidden_size", Member<&ModelConfiguration::hidden_size>},
    {"initializer_range", Member<&ModelConfiguration::initializer_range>, true},
    {"intermediate_size", Member<&ModelConfiguration::ffn_hidden_size>},
    {"max_position_embeddings", Member<&ModelConfiguration::maximum_positions>},
    {"mlp_bias", Always<false>},
    {"norm_eps", Member<&ModelConfiguration::norm_epsilon>},
    {"num_attention_heads", Member<&ModelConfiguration::attention_heads>},
    {"num_hidden_layers", Member<&ModelConfiguration::layers>},
    {"num_key_value_heads", Member<&ModelConfiguration::query_groups>},
    {"partial_rotary_factor", Member<&ModelConfiguration::rotary_percent>},
    {"rope_parameters", PartialRope},
    {"rope_theta", Member<&ModelConfiguration::rotary_base>},
    {"tie_word_embeddings", Member<&ModelConfiguration::tied_embeddings>},
    {"use_cache", Always<true>, true},
    {"vocab_size", Member<&ModelConfiguration::vocabulary_size>},
});

int Fit(const ModelConfiguration& c) {
  return HasOnlyAttention(c) && c.normalization == "LayerNorm" && c.zero_centered_gamma && !c.gated &&
                 c.activation == "relu2" && c.position_embedding == "rope" && !c.experts.count && !c.qk_norm &&
                 !c.qkv_bias && !c.linear_bias && !c.latent_attention && !c.attention_gate && !c.sliding_window
             ? 2
             : 0;
}

}  // namespace

const Architecture kNemotron = {
    .name = "NemotronForCausalLM",
    .model_type = "nemotron",
    .summary = "Nemotron-4, Minitron",
    .blocks = kBlocks,
    .fields = kFields,
    .fit = Fit,
    .zero_centered_norms = true,
};

}  // namespace slipway::engine
