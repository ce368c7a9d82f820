// What quantization_config.cc puts together: one function a form.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "worker/engine/target/quantization_config.h"

namespace slipway::engine {

QuantizationFiles MakeModelOptConfig(const std::vector<QuantizedModule>& modules, KvCache kv_cache);
nlohmann::ordered_json MakeCompressedTensorsConfig(const std::vector<QuantizedModule>& modules, KvCache kv_cache);
nlohmann::ordered_json MakeNativeConfig(const std::vector<QuantizedModule>& modules);

// Modules that are quantized alike.
struct ModuleGroup {
  const Layout* layout = nullptr;
  std::int32_t size = 0;  // of the coding's groups; 0: it has none
  std::vector<std::string_view> modules;
};

// In the order in which the first modules of each come.
std::vector<ModuleGroup> GroupModules(const std::vector<QuantizedModule>& modules);

std::vector<std::string_view> NamesOfKept(const std::vector<QuantizedModule>& modules);

// The names, and after them those that transformers 5 gives the same modules when it loads them, where it renames them.
std::vector<std::string> WithTransformersNames(const std::vector<std::string_view>& names,
                                               const std::vector<QuantizedModule>& modules);

// Matrices that stay as they are, WithTransformersNames; without embeddings, which no form quantizes.
std::vector<std::string> KeptMatrices(const std::vector<QuantizedModule>& modules);

// Whether the output layer is quantized, which engines have to be told.
[[nodiscard]] bool QuantizesOutputLayer(const std::vector<QuantizedModule>& modules);

// What a number is, in config groups' words.
[[nodiscard]] int BitsOf(const Layout& layout);
[[nodiscard]] std::string_view TypeOf(const Layout& layout);       // "float", "int"
[[nodiscard]] int InputBitsOf(const Layout& layout);               // of a layout that quantizes inputs
[[nodiscard]] std::string_view InputTypeOf(const Layout& layout);  // likewise

}  // namespace slipway::engine
