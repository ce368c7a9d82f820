// Qwen3-MoE: Qwen3's attention; a router and gated experts, dense layers among them.
#include "worker/engine/model/architectures/config_groups.h"
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/tensor_groups.h"

namespace slipway::engine {
namespace {

constexpr auto kLayerRules =
    Concatenate(kAttentionRules, kQkNormRules, kMlpNormRules, kGatedMlpRules, kRouterRules, kExpertRules);

constexpr auto kFields =
    ConcatenateFields(kDecoderFields, kNoWindowFields, kQwenExpertsFields,
                      std::to_array<ConfigField>({{"attention_bias", Member<&ModelConfiguration::qkv_bias>},
                                                  // transformers 5 spells num_experts so.
                                                  {"num_local_experts", Experts<&ExpertsConfiguration::count>}}));

int Fit(const ModelConfiguration& c) {
  return IsExpertsDecoder(c) && RoutesBySoftmax(c) && c.qk_norm && !c.full_qk_norm && !c.qkv_bias && !c.linear_bias &&
                 !c.sliding_window && !c.experts.shared_ffn_hidden_size
             ? 4
             : 0;
}

}  // namespace

const Architecture kQwen3Moe = {
    .name = "Qwen3MoeForCausalLM",
    .model_type = "qwen3_moe",
    .summary = "Qwen3 with experts",
    .blocks = kDecoderBlocks<kLayerRules>,
    .fields = kFields,
    .fit = Fit,
};

}  // namespace slipway::engine
