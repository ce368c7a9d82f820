// Qwen2: Llama's tensors, with biases in q, k and v only.
#include "worker/engine/model/architectures/config_groups.h"
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/tensor_groups.h"

namespace slipway::engine {
namespace {

constexpr auto kLayerRules = Concatenate(kAttentionRules, kQkvBiasRules, kMlpNormRules, kGatedMlpRules);

constexpr auto kFields = ConcatenateFields(kDecoderFields, kNoWindowFields);

int Fit(const ModelConfiguration& c) {
  return IsPlainDecoder(c) && c.qkv_bias && !c.linear_bias && !c.qk_norm && !c.sliding_window ? 3 : 0;
}

}  // namespace

const Architecture kQwen2 = {
    .name = "Qwen2ForCausalLM",
    .model_type = "qwen2",
    .summary = "Qwen2 and Qwen2.5, dense",
    .blocks = kDecoderBlocks<kLayerRules>,
    .fields = kFields,
    .fit = Fit,
};

}  // namespace slipway::engine
