// quantization_config of methods that engines have of their own: fp8, awq, gptq, mxfp4, mxfp8.
#include <string>

#include "worker/engine/target/config_forms.h"

namespace slipway::engine {
namespace {

using Json = nlohmann::ordered_json;

Json Float8(const ModuleGroup& group, const Json& kept) {
  const Layout& layout = *group.layout;
  Json config{{"quant_method", "fp8"},
              {"fmt", "e4m3"},
              {"activation_scheme", layout.activations == Activations::kStatic ? "static" : "dynamic"}};
  if (layout.coding.sharing == Sharing::kSquare) {
    config["weight_block_size"] = Json::array({group.size, group.size});
  }
  config["modules_to_not_convert"] = kept;
  return config;
}

Json Awq(const ModuleGroup& group, const Json& kept, bool output_layer) {
  Json config{{"quant_method", "awq"}, {"bits", 4},         {"group_size", group.size},
              {"zero_point", true},    {"version", "gemm"}, {"modules_to_not_convert", kept}};
  if (output_layer) {
    config["lm_head"] = true;
  }
  return config;
}

// "-:" and a pattern that is matched from a name's start on.
std::string ExceptionFor(std::string_view name) {
  std::string pattern = "-:";
  for (const char letter : name) {
    pattern += letter == '.' ? "\\." : std::string(1, letter);
  }
  return pattern + "$";
}

Json Gptq(const ModuleGroup& group, const Json& kept, bool output_layer) {
  Json config{{"quant_method", "gptq"},     {"bits", 4},   {"group_size", group.size},
              {"desc_act", false},          {"sym", true}, {"lm_head", output_layer},
              {"checkpoint_format", "gptq"}};
  // It converts every linear layer but lm_head where nothing says otherwise.
  Json exceptions = Json::object();
  for (const auto& name : kept) {
    if (name != "lm_head") {
      exceptions[ExceptionFor(name.get<std::string>())] = Json::object();
    }
  }
  if (!exceptions.empty()) {
    config["dynamic"] = std::move(exceptions);
  }
  return config;
}

Json Mxfp8(const ModuleGroup& group, const Json& kept) {
  // vLLM and SGLang read the one list, transformers the other.
  return {{"quant_method", "mxfp8"}, {"weight_block_size", Json::array({1, group.size})},
          {"scale_fmt", "ue8m0"},    {"activation_scheme", "dynamic"},
          {"ignored_layers", kept},  {"modules_to_not_convert", kept}};
}

}  // namespace

Json MakeNativeConfig(const std::vector<QuantizedModule>& modules) {
  const std::vector<ModuleGroup> groups = GroupModules(modules);
  const ModuleGroup& group = groups.front();
  const std::string_view method = group.layout->algorithm;
  const Json kept = KeptMatrices(modules);
  if (method == "awq") {
    return Awq(group, kept, QuantizesOutputLayer(modules));
  }
  if (method == "gptq") {
    return Gptq(group, kept, QuantizesOutputLayer(modules));
  }
  if (method == "mxfp8") {
    return Mxfp8(group, kept);
  }
  if (method == "mxfp4") {
    return {{"quant_method", "mxfp4"}, {"modules_to_not_convert", NamesOfKept(modules)}};
  }
  return Float8(group, kept);
}

}  // namespace slipway::engine
