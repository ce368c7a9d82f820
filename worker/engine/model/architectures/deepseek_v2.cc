// DeepSeek-V2: latent attention; experts chosen by softmax, whose weights are not normalized.
#include "worker/engine/model/architectures/config_groups.h"
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/latent_groups.h"
#include "worker/engine/model/architectures/tensor_groups.h"

namespace slipway::engine {
namespace {

std::optional<nlohmann::json> GroupChoice(const ModelConfiguration& c) {
  return nlohmann::json(c.experts.groups.value_or(1) > 1 ? "group_limited_greedy" : "greedy");
}

constexpr auto kFields =
    ConcatenateFields(kLatentDecoderFields, std::to_array<ConfigField>({{"aux_loss_alpha", AuxiliaryLoss, true},
                                                                        {"ep_size", Always<1>, true},
                                                                        {"mlp_bias", Always<false>},
                                                                        {"norm_topk_prob", Always<false>},
                                                                        {"pretraining_tp", Always<1>, true},
                                                                        {"scoring_func", ScoreFunction},
                                                                        {"topk_method", GroupChoice}}));

int Fit(const ModelConfiguration& c) {
  return IsLatentDecoder(c) && !RoutesBySigmoid(c) && c.experts.pre_softmax.value_or(true) ? 3 : 0;
}

}  // namespace

const Architecture kDeepseekV2 = {
    .name = "DeepseekV2ForCausalLM",
    .model_type = "deepseek_v2",
    .summary = "DeepSeek-V2, V2-Lite, V2.5",
    .blocks = kPredictingDecoderBlocks<kLatentLayerRules>,
    .fields = kFields,
    .fit = Fit,
};

}  // namespace slipway::engine
