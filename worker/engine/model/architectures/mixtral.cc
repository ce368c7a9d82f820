// Mixtral: Llama's attention; in every layer a router and gated experts, chosen before the softmax.
#include "worker/engine/model/architectures/config_groups.h"
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/tensor_groups.h"

namespace slipway::engine {
namespace {

using namespace extents;  // NOLINT(google-build-using-namespace)

constexpr TargetRule kRouter[] = {{"block_sparse_moe.gate.weight", {kExperts, kHidden}}};
constexpr TargetRule kGateUp[] = {{"block_sparse_moe.experts.{expert}.w1.weight", {kExpertFfn, kHidden}},
                                  {"block_sparse_moe.experts.{expert}.w3.weight", {kExpertFfn, kHidden}}};
constexpr TargetRule kDown[] = {{"block_sparse_moe.experts.{expert}.w2.weight", {kHidden, kExpertFfn}}};

constexpr auto kLayerRules = Concatenate(kAttentionRules, kMlpNormRules,
                                         std::to_array<TensorRule>({
                                             {"mlp.router.weight", kRouter},
                                             {"mlp.experts.{expert}.linear_fc1.weight", kGateUp, Transform::kSplit},
                                             {"mlp.experts.{expert}.linear_fc2.weight", kDown},
                                         }));

constexpr auto kFields =
    ConcatenateFields(kDecoderFieldsWithoutFfn, std::to_array<ConfigField>({
                                                    {"intermediate_size", ExpertFfn},
                                                    {"num_experts_per_tok", Experts<&ExpertsConfiguration::active>},
                                                    {"num_local_experts", Experts<&ExpertsConfiguration::count>},
                                                    {"output_router_logits", Always<false>, true},
                                                    {"router_aux_loss_coef", AuxiliaryLoss, true},
                                                    {"router_jitter_noise", AlwaysRatio<0, 1>, true},
                                                    {"sliding_window", SlidingWindow},
                                                }));

int Fit(const ModelConfiguration& c) {
  return IsExpertsDecoder(c) && RoutesBySoftmax(c) && !c.qk_norm && !c.qkv_bias && !c.linear_bias &&
                 !c.experts.pre_softmax.value_or(false) && !c.experts.shared_ffn_hidden_size
             ? 2
             : 0;
}

}  // namespace

const Architecture kMixtral = {
    .name = "MixtralForCausalLM",
    .model_type = "mixtral",
    .summary = "Mixtral 8x7B, 8x22B",
    .blocks = kDecoderBlocks<kLayerRules>,
    .fields = kFields,
    .fit = Fit,
};

}  // namespace slipway::engine
