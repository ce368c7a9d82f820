// quantization_config of compressed-tensors.
#include <string>

#include "worker/engine/target/config_forms.h"

namespace slipway::engine {
namespace {

using Json = nlohmann::ordered_json;

// QuantizationArgs; null where it has no value.
struct Arguments {
  Json dynamic = false;
  int bits = 8;
  std::string_view type = "float";
  std::string_view strategy = "tensor";
  Json group_size = nullptr;
  Json block_structure = nullptr;
  Json scale_dtype = nullptr;
  bool symmetric = true;
  Json observer = nullptr;
};

Json ToJson(const Arguments& arguments) {
  return {{"actorder", nullptr},
          {"block_structure", arguments.block_structure},
          {"dynamic", arguments.dynamic},
          {"group_size", arguments.group_size},
          {"num_bits", arguments.bits},
          {"observer", arguments.observer},
          {"observer_kwargs", Json::object()},
          {"scale_dtype", arguments.scale_dtype},
          {"strategy", arguments.strategy},
          {"symmetric", arguments.symmetric},
          {"type", arguments.type},
          {"zp_dtype", arguments.symmetric ? Json() : Json("torch.int8")}};
}

bool IsTwoLevel(const Coding& coding) { return coding.scale_dtype == DType::kF8E4M3; }

Json ScaleType(const Coding& coding) {
  if (IsTwoLevel(coding)) {
    return "torch.float8_e4m3fn";
  }
  return coding.scale_dtype == DType::kU8 ? Json("torch.uint8") : Json();
}

Json Weights(const ModuleGroup& group) {
  const Coding& coding = group.layout->coding;
  Arguments arguments{.bits = BitsOf(*group.layout), .type = TypeOf(*group.layout), .scale_dtype = ScaleType(coding)};
  arguments.symmetric = !HasZeroPoints(coding.rule);
  arguments.observer = "memoryless_minmax";
  switch (coding.sharing) {
    case Sharing::kTensor:
      break;
    case Sharing::kRow:
      arguments.strategy = "channel";
      break;
    case Sharing::kGroup:
      arguments.strategy = IsTwoLevel(coding) ? "tensor_group" : "group";
      arguments.group_size = group.size;
      break;
    case Sharing::kSquare:
      arguments.strategy = "block";
      arguments.block_structure = Json::array({group.size, group.size});
      break;
  }
  return ToJson(arguments);
}

Json Inputs(const ModuleGroup& group) {
  const Layout& layout = *group.layout;
  const Coding& coding = layout.coding;
  if (layout.activations == Activations::kNone) {
    return nullptr;
  }
  Arguments arguments{.bits = InputBitsOf(layout), .type = InputTypeOf(layout)};
  if (layout.activations == Activations::kStatic) {
    arguments.observer = arguments.type == "int" ? "minmax" : "static_minmax";
  } else {
    arguments.dynamic = true;
    arguments.strategy = "token";
  }
  if (IsTwoLevel(coding)) {  // the second level is stored, the first is of the values
    arguments.dynamic = "local";
    arguments.strategy = "tensor_group";
    arguments.group_size = group.size;
    arguments.scale_dtype = ScaleType(coding);
  } else if (coding.scale_dtype == DType::kU8) {
    arguments.strategy = "group";
    arguments.group_size = group.size;
    arguments.scale_dtype = ScaleType(coding);
  } else if (coding.sharing == Sharing::kSquare) {
    arguments.strategy = "group";
    arguments.group_size = group.size;
  }
  return ToJson(arguments);
}

// All linear layers but the ignored ones, where they are quantized alike. vLLM's output layer is none of them.
Json Targets(const std::vector<ModuleGroup>& groups, const ModuleGroup& group,
             const std::vector<QuantizedModule>& modules) {
  if (groups.size() > 1) {
    return WithTransformersNames(group.modules, modules);
  }
  return QuantizesOutputLayer(modules) ? Json::array({"Linear", "re:.*(lm_head|embed_out)$"}) : Json::array({"Linear"});
}

Json ConfigGroups(const std::vector<ModuleGroup>& groups, const std::vector<QuantizedModule>& modules) {
  Json config = Json::object();
  for (std::size_t i = 0; i < groups.size(); ++i) {
    config["group_" + std::to_string(i)] = {{"format", groups[i].layout->algorithm},
                                            {"input_activations", Inputs(groups[i])},
                                            {"output_activations", nullptr},
                                            {"targets", Targets(groups, groups[i], modules)},
                                            {"weights", Weights(groups[i])}};
  }
  return config;
}

std::string_view FormatOf(const std::vector<ModuleGroup>& groups) {
  for (const ModuleGroup& group : groups) {
    if (group.layout->algorithm != groups.front().layout->algorithm) {
      return "mixed-precision";
    }
  }
  return groups.front().layout->algorithm;
}

}  // namespace

Json MakeCompressedTensorsConfig(const std::vector<QuantizedModule>& modules, KvCache kv_cache) {
  const std::vector<ModuleGroup> groups = GroupModules(modules);
  return {{"config_groups", ConfigGroups(groups, modules)},
          {"format", FormatOf(groups)},
          {"global_compression_ratio", nullptr},
          {"ignore", KeptMatrices(modules)},
          {"kv_cache_scheme", kv_cache == KvCache::kFp8 ? ToJson({.observer = "minmax"}) : Json()},
          {"quant_method", "compressed-tensors"},
          {"quantization_status", "compressed"},
          {"sparsity_config", Json::object()},
          {"transform_config", Json::object()},
          {"version", "0.19.0"}};
}

}  // namespace slipway::engine
