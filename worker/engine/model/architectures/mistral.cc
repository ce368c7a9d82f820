// Mistral: Llama's tensors without biases; may have a sliding window. Without one, nothing in a checkpoint tells it
// from Llama, so it is chosen by name only.
#include "worker/engine/model/architectures/config_groups.h"
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/tensor_groups.h"

namespace slipway::engine {
namespace {

constexpr auto kLayerRules = Concatenate(kAttentionRules, kMlpNormRules, kGatedMlpRules);

// null has to be said: what transformers assumes otherwise is a window of 4096.
constexpr auto kFields =
    ConcatenateFields(kDecoderFields, std::to_array<ConfigField>({{"sliding_window", SlidingWindow}}));

int Fit(const ModelConfiguration& c) {
  return IsPlainDecoder(c) && !c.qk_norm && !c.qkv_bias && !c.linear_bias ? 1 : 0;
}

}  // namespace

const Architecture kMistral = {
    .name = "MistralForCausalLM",
    .model_type = "mistral",
    .summary = "Mistral 7B, Nemo, Small and Large (dense); name it with --architecture",
    .blocks = kDecoderBlocks<kLayerRules>,
    .fields = kFields,
    .fit = Fit,
};

}  // namespace slipway::engine
