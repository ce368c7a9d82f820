// Llama: RMSNorm, rotary positions, grouped attention, gated SiLU; biases in all linear layers or in none.
#include "worker/engine/model/architectures/config_groups.h"
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/tensor_groups.h"

namespace slipway::engine {
namespace {

constexpr auto kLayerRules =
    Concatenate(kAttentionRules, kQkvBiasRules, kMlpNormRules, kGatedMlpRules, kLinearBiasRules);

constexpr auto kFields =
    ConcatenateFields(kDecoderFields, std::to_array<ConfigField>({
                                          {"attention_bias", Member<&ModelConfiguration::qkv_bias>},
                                          {"mlp_bias", Member<&ModelConfiguration::linear_bias>},
                                          {"pretraining_tp", Always<1>, true},
                                      }));

// Hugging Face's attention_bias covers the output projection too.
int Fit(const ModelConfiguration& c) {
  return IsPlainDecoder(c) && !c.qk_norm && c.qkv_bias == c.linear_bias && !c.sliding_window ? 2 : 0;
}

}  // namespace

const Architecture kLlama = {
    .name = "LlamaForCausalLM",
    .model_type = "llama",
    .summary = "Llama 2, 3, 3.1 to 3.3 and models of the same shape",
    .blocks = kDecoderBlocks<kLayerRules>,
    .fields = kFields,
    .fit = Fit,
};

}  // namespace slipway::engine
