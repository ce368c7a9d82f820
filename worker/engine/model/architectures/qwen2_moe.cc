// Qwen2-MoE: Qwen2's attention; experts beside a shared one with a gate of its own.
#include "worker/engine/model/architectures/config_groups.h"
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/tensor_groups.h"

namespace slipway::engine {
namespace {

constexpr auto kLayerRules = Concatenate(kAttentionRules, kQkvBiasRules, kMlpNormRules, kGatedMlpRules, kRouterRules,
                                         kExpertRules, kGatedSharedExpertRules);

constexpr auto kFields = ConcatenateFields(
    kDecoderFields, kQwenExpertsFields,
    std::to_array<ConfigField>(
        {{"layer_types", FullAttentionLayers, true},
         {"sliding_window", Always<0>, true},  // as transformers spells one that is switched off
         {"use_sliding_window", Always<false>},
         {"qkv_bias", Member<&ModelConfiguration::qkv_bias>},
         {"shared_expert_intermediate_size", Experts<&ExpertsConfiguration::shared_ffn_hidden_size>}}));

int Fit(const ModelConfiguration& c) {
  return IsExpertsDecoder(c) && RoutesBySoftmax(c) && !c.qk_norm && !c.linear_bias && !c.sliding_window &&
                 c.experts.shared_ffn_hidden_size
             ? 3
             : 0;
}

}  // namespace

const Architecture kQwen2Moe = {
    .name = "Qwen2MoeForCausalLM",
    .model_type = "qwen2_moe",
    .summary = "Qwen1.5-MoE and Qwen2-MoE",
    .blocks = kDecoderBlocks<kLayerRules>,
    .fields = kFields,
    .fit = Fit,
    .proof = Proof::kDerived,
};

}  // namespace slipway::engine
