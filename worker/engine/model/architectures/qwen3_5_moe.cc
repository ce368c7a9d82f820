// Qwen3.5 with experts, text only: experts are stacked, except in the prediction layer; every layer has them. Nothing
// in a checkpoint tells it from Qwen3-Next.
#include <algorithm>

#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/hybrid_config.h"
#include "worker/engine/model/architectures/qwen3_5.h"

namespace slipway::engine {
namespace {

using namespace extents;  // NOLINT(google-build-using-namespace)

constexpr TargetRule kStackedGateUp[] = {{"mlp.experts.gate_up_proj", {kExperts, kTwiceExpertFfn, kHidden}}};
constexpr TargetRule kStackedDown[] = {{"mlp.experts.down_proj", {kExperts, kHidden, kExpertFfn}}};

constexpr std::array kStackedExpertRules = std::to_array<TensorRule>({
    {"mlp.experts.{expert}.linear_fc1.weight", kStackedGateUp, Transform::kCopy, presences::kAlways, Layers::kExperts},
    {"mlp.experts.{expert}.linear_fc2.weight", kStackedDown, Transform::kCopy, presences::kAlways, Layers::kExperts},
});

constexpr auto kLayerRules = Concatenate(kGatedAttentionRules, kDeltaNetRules, kSeparateDeltaInputRules, kMlpNormRules,
                                         kRouterRules, kStackedExpertRules, kGatedSharedExpertRules);
constexpr auto kPredictionLayerRules =
    Concatenate(kGatedAttentionRules, kMlpNormRules, kRouterRules, kExpertRules, kGatedSharedExpertRules);

constexpr auto kFields = ConcatenateFields(
    kQwenHybridFields, std::to_array<ConfigField>({
                           {"moe_intermediate_size", ExpertFfn},
                           {"mtp_num_hidden_layers", PredictionLayers},
                           {"num_experts", Experts<&ExpertsConfiguration::count>},
                           {"num_experts_per_tok", Experts<&ExpertsConfiguration::active>},
                           {"output_router_logits", Always<false>, true},
                           {"router_aux_loss_coef", AuxiliaryLoss, true},
                           {"shared_expert_intermediate_size", Experts<&ExpertsConfiguration::shared_ffn_hidden_size>},
                       }));

int Fit(const ModelConfiguration& c) {
  const auto has_experts = [](const LayerKind& kind) { return kind.feed == Feed::kExperts; };
  return IsQwenHybrid(c) && c.experts.count && c.experts.shared_ffn_hidden_size &&
                 !c.experts.pre_softmax.value_or(false) && std::ranges::all_of(c.layer_kinds, has_experts)
             ? 3
             : 0;
}

}  // namespace

const Architecture kQwen3_5Moe = {
    .name = "Qwen3_5MoeForCausalLM",
    .model_type = "qwen3_5_moe_text",
    .summary = "Qwen3.5 with experts, text",
    .blocks = kQwenHybridBlocks<kLayerRules, kPredictionLayerRules>,
    .fields = kFields,
    .fit = Fit,
    .zero_centered_norms = true,
    .proof = Proof::kDerived,
};

}  // namespace slipway::engine
