// GPT-OSS: attention with sinks and biases; experts stacked, transposed, gate and up interleaved. Megatron-LM's
// arguments know neither sinks nor windows nor YaRN: the model's config.json is needed. The weights come out in BF16,
// not MXFP4.
#include "worker/engine/model/architectures/config_groups.h"
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/tensor_groups.h"

namespace slipway::engine {
namespace {

using namespace extents;  // NOLINT(google-build-using-namespace)

constexpr TargetRule kSinks[] = {{"self_attn.sinks", {kHeads}}};
constexpr TargetRule kRouter[] = {{"mlp.router.weight", {kExperts, kHidden}}};
constexpr TargetRule kRouterBias[] = {{"mlp.router.bias", {kExperts}}};
constexpr TargetRule kGateUp[] = {{"mlp.experts.gate_up_proj", {kExperts, kHidden, kTwiceExpertFfn}}};
constexpr TargetRule kGateUpBias[] = {{"mlp.experts.gate_up_proj_bias", {kExperts, kTwiceExpertFfn}}};
constexpr TargetRule kDown[] = {{"mlp.experts.down_proj", {kExperts, kExpertFfn, kHidden}}};
constexpr TargetRule kDownBias[] = {{"mlp.experts.down_proj_bias", {kExperts, kHidden}}};

using presences::kAlways;

constexpr auto kLayerRules = Concatenate(
    kAttentionRules, kQkvBiasRules,
    std::to_array<TensorRule>({
        {"self_attention.linear_proj.bias", targets::kOutputBias},
        {"self_attention.core_attention.softmax_offset", kSinks},
    }),
    kMlpNormRules,
    std::to_array<TensorRule>({
        {"mlp.router.weight", kRouter},
        {"mlp.router.bias", kRouterBias},
        {"mlp.experts.{expert}.linear_fc1.weight", kGateUp, Transform::kCopy, kAlways, Layers::kAll,
         Axes::kInterleavedTransposed},
        {"mlp.experts.{expert}.linear_fc1.bias", kGateUpBias, Transform::kCopy, kAlways, Layers::kAll,
         Axes::kInterleaved},
        {"mlp.experts.{expert}.linear_fc2.weight", kDown, Transform::kCopy, kAlways, Layers::kAll, Axes::kTransposed},
        {"mlp.experts.{expert}.linear_fc2.bias", kDownBias},
    }));

constexpr auto kFields =
    ConcatenateFields(kDecoderFieldsWithoutFfn, std::to_array<ConfigField>({
                                                    {"attention_bias", Member<&ModelConfiguration::qkv_bias>},
                                                    {"intermediate_size", ExpertFfn},
                                                    {"num_experts_per_tok", Experts<&ExpertsConfiguration::active>},
                                                    {"num_local_experts", Experts<&ExpertsConfiguration::count>},
                                                    {"output_router_logits", Always<false>, true},
                                                }));

int Fit(const ModelConfiguration& c) {
  return c.experts.count && c.Has("decoder.layers.{layer}.self_attention.core_attention.softmax_offset") ? 5 : 0;
}

// config.json says what they say.
constexpr std::string_view kAccepted[] = {"window_attn_skip_freq", "softmax_type", "activation_func_clamp_value",
                                          "glu_linear_offset"};

}  // namespace

const Architecture kGptOss = {
    .name = "GptOssForCausalLM",
    .model_type = "gpt_oss",
    .summary = "GPT-OSS 20B, 120B, in BF16; with --hf-config",
    .blocks = kDecoderBlocks<kLayerRules>,
    .fields = kFields,
    .fit = Fit,
    .beyond_arguments = true,
    .accepts = kAccepted,
    .proof = Proof::kMegatronBridge,
};

}  // namespace slipway::engine
