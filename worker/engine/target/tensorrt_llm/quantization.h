// Quantized weights in TensorRT-LLM's checkpoints.
#pragma once

#include "worker/engine/target/rank_quantization.h"

namespace slipway::engine {

extern const RankQuantization kTensorRtLlmQuantization;

namespace tensorrt_llm {

// The tables: which formats there are, and which tensors stand for a weight in each.
std::span<const RankFormat> QuantizedFormats();

// The part of kTensorRtLlmQuantization that writes: config.json with its `quantization`, and quant_cfg.json where
// modules are quantized differently. Refuses what no version builds an engine of, and what the one that is named does
// not; of what only some versions build it warns.
absl::StatusOr<RankQuantizationText> DescribeQuantization(const std::vector<RankModule>& modules, KvCache kv_cache,
                                                          const RankRequest& request, std::string_view config);

}  // namespace tensorrt_llm
}  // namespace slipway::engine
