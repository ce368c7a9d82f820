// How the weights of a Hugging Face directory are quantized, by its config.json and the files beside it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/checkpoint.h"

namespace slipway::engine {

struct BlockShape {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
};

struct SourceQuantization {
  std::string method;                // "fp8", "gptq", "awq", "modelopt", ...; empty: none
  std::optional<BlockShape> blocks;  // of method fp8 with weight_block_size: DeepSeek's form
};

// CONFIGURATION_INVALID for a quantization_config that is no object or whose weight_block_size makes no sense.
absl::StatusOr<SourceQuantization> QuantizationOf(const Checkpoint& checkpoint, const nlohmann::ordered_json& config);

// Files that state a quantization beside config.json, by the tools that write them.
struct QuantizationFile {
  std::string_view name;
  std::string_view method;
};
inline constexpr std::array<QuantizationFile, 3> kQuantizationFiles = {
    {{"hf_quant_config.json", "modelopt"}, {"quantize_config.json", "gptq"}, {"quant_config.json", "awq"}}};

// Removes quantization_config wherever QuantizationOf looks for it.
void RemoveQuantization(nlohmann::ordered_json& config);

}  // namespace slipway::engine
