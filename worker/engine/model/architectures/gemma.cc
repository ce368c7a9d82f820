// Gemma 1, 2 and 3 (text): gated tanh GELU, norms that add one themselves, embeddings always tied. Gemma 2 has norms
// behind attention and MLP too, Gemma 3 norms of queries and keys besides. Megatron-LM's arguments know neither the
// activation nor the windows and scalings: the model's config.json is needed.
#include "worker/engine/model/architectures/config_groups.h"
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/tensor_groups.h"

namespace slipway::engine {
namespace {

using namespace extents;  // NOLINT(google-build-using-namespace)

constexpr TargetRule kAttentionPostNorm[] = {{"post_attention_layernorm.weight", {kHidden}}};
constexpr TargetRule kMlpPreNorm[] = {{"pre_feedforward_layernorm.weight", {kHidden}}};
constexpr TargetRule kMlpPostNorm[] = {{"post_feedforward_layernorm.weight", {kHidden}}};

constexpr auto kLayerRules = Concatenate(kAttentionRules, kMlpNormRules, kGatedMlpRules);

constexpr auto kPostNormRules = std::to_array<TensorRule>({
    {"self_attention.linear_proj.post_layernorm.weight", kAttentionPostNorm, Transform::kNorm},
    {"pre_mlp_layernorm.weight", kMlpPreNorm, Transform::kNorm},
    {"mlp.linear_fc2.post_layernorm.weight", kMlpPostNorm, Transform::kNorm},
});

constexpr auto kLayerRules2 = Concatenate(kAttentionRules, kPostNormRules, kGatedMlpRules);
constexpr auto kLayerRules3 = Concatenate(kAttentionRules, kQkNormRules, kPostNormRules, kGatedMlpRules);

constexpr auto kFields = std::to_array<ConfigField>({
    {"attention_bias", Member<&ModelConfiguration::qkv_bias>},
    {"attention_dropout", NoDropout, true},
    {"head_dim", Member<&ModelConfiguration::head_dimension>},
    {"hidden_activation", Member<&ModelConfiguration::activation>},
    {"hidden_size", Member<&ModelConfiguration::hidden_size>},
    {"initializer_range", Member<&ModelConfiguration::initializer_range>, true},
    {"intermediate_size", Member<&ModelConfiguration::ffn_hidden_size>},
    {"max_position_embeddings", Member<&ModelConfiguration::maximum_positions>},
    {"num_attention_heads", Member<&ModelConfiguration::attention_heads>},
    {"num_hidden_layers", Member<&ModelConfiguration::layers>},
    {"num_key_value_heads", Member<&ModelConfiguration::query_groups>},
    {"rms_norm_eps", Member<&ModelConfiguration::norm_epsilon>},
    {"tie_word_embeddings", Member<&ModelConfiguration::tied_embeddings>},
    {"use_cache", Always<true>, true},
    {"vocab_size", Member<&ModelConfiguration::vocabulary_size>},
});

int Fit(const ModelConfiguration& c, bool post_norms, bool qk_norm) {
  constexpr std::string_view kPostNorm = "decoder.layers.{layer}.mlp.linear_fc2.post_layernorm.weight";
  const bool gelu = c.activation == "gelu_pytorch_tanh" || c.activation == "gelu";
  return IsRotaryDecoder(c) && gelu && c.tied_embeddings && !c.experts.count && c.Has(kPostNorm) == post_norms &&
                 c.qk_norm == qk_norm
             ? 3
             : 0;
}

// config.json says what they say.
constexpr std::string_view kAccepted[] = {"window_attn_skip_freq", "attn_logit_softcapping", "softmax_scale"};

}  // namespace

const Architecture kGemma = {
    .name = "GemmaForCausalLM",
    .model_type = "gemma",
    .summary = "Gemma 1; with --hf-config",
    .blocks = kDecoderBlocks<kLayerRules>,
    .fields = kFields,
    .fit = [](const ModelConfiguration& c) { return c.sliding_window ? 0 : Fit(c, false, false); },
    .zero_centered_norms = true,
    .beyond_arguments = true,
    .accepts = kAccepted,
    .proof = Proof::kDerived,
};

const Architecture kGemma2 = {
    .name = "Gemma2ForCausalLM",
    .model_type = "gemma2",
    .summary = "Gemma 2; with --hf-config",
    .blocks = kDecoderBlocks<kLayerRules2>,
    .fields = kFields,
    .fit = [](const ModelConfiguration& c) { return Fit(c, true, false); },
    .zero_centered_norms = true,
    .beyond_arguments = true,
    .accepts = kAccepted,
    .proof = Proof::kDerived,
};

const Architecture kGemma3 = {
    .name = "Gemma3ForCausalLM",
    .model_type = "gemma3_text",
    .summary = "Gemma 3, text; with --hf-config",
    .blocks = kDecoderBlocks<kLayerRules3>,
    .fields = kFields,
    .fit = [](const ModelConfiguration& c) { return Fit(c, true, true); },
    .zero_centered_norms = true,
    .beyond_arguments = true,
    .accepts = kAccepted,
    .proof = Proof::kMegatronBridge,
};

}  // namespace slipway::engine
