// DeepSeek-V3: latent attention, experts chosen by sigmoid with a bias, prediction layers. Kimi-K2 and Moonlight are of
// the same classes.
#include "worker/engine/model/architectures/config_groups.h"
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/latent_groups.h"
#include "worker/engine/model/architectures/tensor_groups.h"

namespace slipway::engine {
namespace {

constexpr auto kFields = ConcatenateFields(
    kLatentDecoderFields, kSigmoidRouterFields,
    std::to_array<ConfigField>(
        {{"ep_size", Always<1>, true}, {"pretraining_tp", Always<1>, true}, {"rope_interleave", Always<true>, true}}));

int Fit(const ModelConfiguration& c) { return IsLatentDecoder(c) && RoutesBySigmoid(c) ? 3 : 0; }

}  // namespace

const Architecture kDeepseekV3 = {
    .name = "DeepseekV3ForCausalLM",
    .model_type = "deepseek_v3",
    .summary = "DeepSeek-V3, R1, Moonlight, Kimi-K2",
    .blocks = kPredictingDecoderBlocks<kLatentLayerRules>,
    .fields = kFields,
    .fit = Fit,
};

}  // namespace slipway::engine
