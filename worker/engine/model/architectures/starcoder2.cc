// StarCoder2: LayerNorm, rotary positions, grouped attention, plain GELU, biases everywhere.
#include "worker/engine/model/architectures/config_groups.h"
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/tensor_groups.h"

namespace slipway::engine {
namespace {

using namespace extents;  // NOLINT(google-build-using-namespace)

constexpr TargetRule kUp[] = {{"mlp.c_fc.weight", {kFfn, kHidden}}};
constexpr TargetRule kUpBias[] = {{"mlp.c_fc.bias", {kFfn}}};
constexpr TargetRule kDown[] = {{"mlp.c_proj.weight", {kHidden, kFfn}}};
constexpr TargetRule kDownBias[] = {{"mlp.c_proj.bias", {kHidden}}};

constexpr auto kLayerRules = Concatenate(kAttentionRules, kQkvBiasRules, kMlpNormRules, kNormBiasRules,
                                         std::to_array<TensorRule>({
                                             {"self_attention.linear_proj.bias", targets::kOutputBias},
                                             {"mlp.linear_fc1.weight", kUp},
                                             {"mlp.linear_fc1.bias", kUpBias},
                                             {"mlp.linear_fc2.weight", kDown},
                                             {"mlp.linear_fc2.bias", kDownBias},
                                         }));

constexpr auto kFields = std::to_array<ConfigField>({
    {"attention_dropout", NoDropout, true},
    {"embedding_dropout", AlwaysRatio<0, 1>, true},
    {"hidden_act", Member<&ModelConfiguration::activation>},
    {"hidden_size", Member<&ModelConfiguration::hidden_size>},
    {"intermediate_size", Member<&ModelConfiguration::ffn_hidden_size>},
    {"max_position_embeddings", Member<&ModelConfiguration::maximum_positions>},
    {"norm_epsilon", Member<&ModelConfiguration::norm_epsilon>},
    {"num_attention_heads", Member<&ModelConfiguration::attention_heads>},
    {"num_hidden_layers", Member<&ModelConfiguration::layers>},
    {"num_key_value_heads", Member<&ModelConfiguration::query_groups>},
    {"residual_dropout", AlwaysRatio<0, 1>, true},
    {"rope_scaling", RopeScaling},
    {"rope_theta", Member<&ModelConfiguration::rotary_base>},
    {"sliding_window", SlidingWindow},
    {"tie_word_embeddings", Member<&ModelConfiguration::tied_embeddings>},
    {"use_bias", Always<true>},
    {"use_cache", Always<true>, true},
    {"vocab_size", Member<&ModelConfiguration::vocabulary_size>},
});

int Fit(const ModelConfiguration& c) {
  return IsLayerNormDecoder(c) && c.position_embedding == "rope" && c.rotary_percent == 1.0 && c.linear_bias &&
                 !c.qk_norm
             ? 2
             : 0;
}

}  // namespace

const Architecture kStarcoder2 = {
    .name = "Starcoder2ForCausalLM",
    .model_type = "starcoder2",
    .summary = "StarCoder2",
    .blocks = kBiasedDecoderBlocks<kLayerRules>,
    .fields = kFields,
    .fit = Fit,
};

}  // namespace slipway::engine
