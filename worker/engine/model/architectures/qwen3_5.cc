// Qwen3.5, text only, dense: Qwen3-Next's mixers, the parts of in_proj as separate tensors.
#include "worker/engine/model/architectures/qwen3_5.h"
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/hybrid_config.h"

namespace slipway::engine {
namespace {

constexpr auto kFeedRules = Concatenate(kMlpNormRules, kGatedMlpRules);
constexpr auto kLayerRules = Concatenate(kGatedAttentionRules, kDeltaNetRules, kSeparateDeltaInputRules, kFeedRules);
constexpr auto kPredictionLayerRules = Concatenate(kGatedAttentionRules, kFeedRules);

constexpr auto kFields = ConcatenateFields(
    kQwenHybridFields, std::to_array<ConfigField>({{"intermediate_size", Member<&ModelConfiguration::ffn_hidden_size>},
                                                   {"mtp_num_hidden_layers", PredictionLayers}}));

int Fit(const ModelConfiguration& c) { return IsQwenHybrid(c) && !c.experts.count ? 4 : 0; }

}  // namespace

const Architecture kQwen3_5 = {
    .name = "Qwen3_5ForCausalLM",
    .model_type = "qwen3_5_text",
    .summary = "Qwen3.5, text",
    .blocks = kQwenHybridBlocks<kLayerRules, kPredictionLayerRules>,
    .fields = kFields,
    .fit = Fit,
    .zero_centered_norms = true,
    .proof = Proof::kDerived,
};

}  // namespace slipway::engine
