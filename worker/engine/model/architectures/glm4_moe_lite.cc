// GLM-4.7-Flash: nothing but its class tells it from DeepSeek-V3.
#include "worker/engine/model/architectures/config_groups.h"
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/latent_groups.h"
#include "worker/engine/model/architectures/tensor_groups.h"

namespace slipway::engine {
namespace {

constexpr auto kFields = ConcatenateFields(kLatentDecoderFields, kSigmoidRouterFields,
                                           std::to_array<ConfigField>({{"mlp_layer_types", MlpLayerTypes},
                                                                       {"pretraining_tp", Always<1>, true},
                                                                       {"rope_interleave", Always<true>, true}}));

int Fit(const ModelConfiguration& c) { return IsLatentDecoder(c) && RoutesBySigmoid(c) ? 1 : 0; }

}  // namespace

const Architecture kGlm4MoeLite = {
    .name = "Glm4MoeLiteForCausalLM",
    .model_type = "glm4_moe_lite",
    .summary = "GLM-4.7-Flash (--architecture, or --hf-config)",
    .blocks = kPredictingDecoderBlocks<kLatentLayerRules>,
    .fields = kFields,
    .fit = Fit,
    .proof = Proof::kDerived,
};

}  // namespace slipway::engine
