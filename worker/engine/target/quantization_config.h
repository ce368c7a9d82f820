// What config files say about the quantization: made from what is written, not from what was asked for.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "worker/engine/quantize/format.h"

namespace slipway::engine {

// A module with a weight matrix: quantized, or left as it is.
struct QuantizedModule {
  std::string name;                // "model.layers.0.self_attn.q_proj"
  const Format* format = nullptr;  // null: not quantized
  const Layout* layout = nullptr;  // with format; all modules' have one form
  std::int32_t group = 0;          // Coding::group
};

struct QuantizationFiles {
  nlohmann::ordered_json config;                  // config.json's quantization_config
  std::optional<nlohmann::ordered_json> sidecar;  // hf_quant_config.json
};

// `modules` are all modules with a matrix, embeddings and lm_head (if it is written) included, at least one of them
// quantized, in the order in which the model has them. `kv_cache`: what the engine keeps keys and values in, which the
// form can say (WhyNotKvCache). Native forms have modules of one layout. Pure.
QuantizationFiles MakeQuantizationConfig(ConfigForm form, const std::vector<QuantizedModule>& modules,
                                         KvCache kv_cache);

// Whether the name is that of the matrix that makes words of a model's last states.
[[nodiscard]] bool IsOutputLayer(std::string_view module);

// Why the form's configuration cannot say it, in a sentence; nothing where it can.
std::optional<std::string> WhyNotKvCache(ConfigForm form, KvCache kv_cache);

}  // namespace slipway::engine
