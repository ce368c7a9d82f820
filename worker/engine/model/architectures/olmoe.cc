// OLMoE: Qwen3-MoE's tensors, with norms of queries and keys over all heads at once.
#include "worker/engine/model/architectures/config_groups.h"
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/tensor_groups.h"

namespace slipway::engine {
namespace {

using namespace extents;  // NOLINT(google-build-using-namespace)

constexpr TargetRule kQueryNorm[] = {{"self_attn.q_norm.weight", {kQueryRows}}};
constexpr TargetRule kKeyNorm[] = {{"self_attn.k_norm.weight", {kKeyValueRows}}};

constexpr auto kLayerRules = Concatenate(kAttentionRules,
                                         std::to_array<TensorRule>({
                                             {"self_attention.q_layernorm.weight", kQueryNorm, Transform::kNorm},
                                             {"self_attention.k_layernorm.weight", kKeyNorm, Transform::kNorm},
                                         }),
                                         kMlpNormRules, kRouterRules, kExpertRules);

constexpr auto kFields =
    ConcatenateFields(kDecoderFieldsWithoutFfn, std::to_array<ConfigField>({
                                                    {"attention_bias", Member<&ModelConfiguration::qkv_bias>},
                                                    {"clip_qkv", Always<nullptr>, true},
                                                    {"intermediate_size", ExpertFfn},
                                                    {"norm_topk_prob", NormalizedWeights, true},
                                                    {"num_experts", Experts<&ExpertsConfiguration::count>},
                                                    {"num_experts_per_tok", Experts<&ExpertsConfiguration::active>},
                                                    {"output_router_logits", Always<false>, true},
                                                    {"router_aux_loss_coef", AuxiliaryLoss, true},
                                                }));

int Fit(const ModelConfiguration& c) {
  return IsExpertsDecoder(c) && RoutesBySoftmax(c) && c.qk_norm && c.full_qk_norm && !c.qkv_bias && !c.linear_bias &&
                 !c.sliding_window
             ? 5
             : 0;
}

}  // namespace

const Architecture kOlmoe = {
    .name = "OlmoeForCausalLM",
    .model_type = "olmoe",
    .summary = "OLMoE",
    .blocks = kDecoderBlocks<kLayerRules>,
    .fields = kFields,
    .fit = Fit,
    .proof = Proof::kDerived,
};

}  // namespace slipway::engine
