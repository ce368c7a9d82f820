// Qwen3-Next: three gated delta nets to one gated attention; experts beside a shared one with a gate of its own.
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/hybrid_config.h"
#include "worker/engine/model/architectures/hybrid_groups.h"

namespace slipway::engine {
namespace {

using namespace extents;  // NOLINT(google-build-using-namespace)

constexpr TargetRule kDeltaInput[] = {{"linear_attn.in_proj_qkvz.weight", {kDeltaQkvzRows, kHidden}},
                                      {"linear_attn.in_proj_ba.weight", {kTwiceDeltaValueHeads, kHidden}}};

constexpr auto kFeedRules =
    Concatenate(kMlpNormRules, kGatedMlpRules, kRouterRules, kExpertRules, kGatedSharedExpertRules);
constexpr auto kLayerRules =
    Concatenate(kGatedAttentionRules, kDeltaNetRules, kFeedRules,
                std::to_array<TensorRule>({{"self_attention.in_proj.weight", kDeltaInput, Transform::kDeltaNet,
                                            presences::kAlways, Layers::kLinearAttention}}));
constexpr auto kPredictionLayerRules = Concatenate(kGatedAttentionRules, kFeedRules);

constexpr auto kFields = ConcatenateFields(
    kQwenHybridFields, kQwenExpertsFields,
    std::to_array<ConfigField>(
        {{"intermediate_size", Member<&ModelConfiguration::ffn_hidden_size>},
         {"num_nextn_predict_layers", PredictionLayers},
         {"shared_expert_intermediate_size", Experts<&ExpertsConfiguration::shared_ffn_hidden_size>}}));

int Fit(const ModelConfiguration& c) {
  return IsQwenHybrid(c) && c.experts.count && c.experts.shared_ffn_hidden_size ? 4 : 0;
}

}  // namespace

const Architecture kQwen3Next = {
    .name = "Qwen3NextForCausalLM",
    .model_type = "qwen3_next",
    .summary = "Qwen3-Next",
    .blocks = kQwenHybridBlocks<kLayerRules, kPredictionLayerRules>,
    .fields = kFields,
    .fit = Fit,
    .zero_centered_norms = true,
    .proof = Proof::kDerived,
};

}  // namespace slipway::engine
