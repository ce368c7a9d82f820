// GLM-4.5: grouped attention with biases and, in the large one, norms of queries and keys; rotary positions on part of
// each head; DeepSeek-V3's experts and prediction layers.
#include "worker/engine/model/architectures/config_groups.h"
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/latent_groups.h"
#include "worker/engine/model/architectures/tensor_groups.h"

namespace slipway::engine {
namespace {

constexpr auto kLayerRules = Concatenate(kAttentionRules, kQkvBiasRules, kQkNormRules, kSharedExpertsMlpRules);

constexpr auto kFields = ConcatenateFields(
    kBareDecoderFields, kSharedExpertsFields,
    std::to_array<ConfigField>({{"attention_bias", Member<&ModelConfiguration::qkv_bias>},
                                {"head_dim", Member<&ModelConfiguration::head_dimension>},
                                {"norm_topk_prob", NormalizedSigmoids},
                                {"num_key_value_heads", Member<&ModelConfiguration::query_groups>},
                                {"partial_rotary_factor", Member<&ModelConfiguration::rotary_percent>},
                                {"rope_parameters", PartialRope},
                                {"rope_scaling", RopeScaling},
                                {"use_qk_norm", Member<&ModelConfiguration::qk_norm>}}));

int Fit(const ModelConfiguration& c) {
  return IsSharedExpertsDecoder(c) && !c.latent_attention && c.position_embedding == "rope" && RoutesBySigmoid(c) ? 3
                                                                                                                  : 0;
}

}  // namespace

const Architecture kGlm4Moe = {
    .name = "Glm4MoeForCausalLM",
    .model_type = "glm4_moe",
    .summary = "GLM-4.5, GLM-4.5-Air, GLM-4.6, GLM-4.7",
    .blocks = kPredictingDecoderBlocks<kLayerRules>,
    .fields = kFields,
    .fit = Fit,
};

}  // namespace slipway::engine
