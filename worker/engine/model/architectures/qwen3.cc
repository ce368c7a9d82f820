// Qwen3: Llama's tensors without biases, and norms of queries and keys, one head wide.
#include "worker/engine/model/architectures/config_groups.h"
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/tensor_groups.h"

namespace slipway::engine {
namespace {

constexpr auto kLayerRules = Concatenate(kAttentionRules, kQkNormRules, kMlpNormRules, kGatedMlpRules);

constexpr auto kFields =
    ConcatenateFields(kDecoderFields, kNoWindowFields,
                      std::to_array<ConfigField>({{"attention_bias", Member<&ModelConfiguration::qkv_bias>}}));

int Fit(const ModelConfiguration& c) {
  return IsPlainDecoder(c) && c.qk_norm && !c.full_qk_norm && !c.qkv_bias && !c.linear_bias && !c.sliding_window ? 4
                                                                                                                 : 0;
}

}  // namespace

const Architecture kQwen3 = {
    .name = "Qwen3ForCausalLM",
    .model_type = "qwen3",
    .summary = "Qwen3, dense",
    .blocks = kDecoderBlocks<kLayerRules>,
    .fields = kFields,
    .fit = Fit,
};

}  // namespace slipway::engine
