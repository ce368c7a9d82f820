// Model Optimizer's two files: quantization_config of config.json, flat, and hf_quant_config.json, nested.
#include <algorithm>
#include <cctype>
#include <set>
#include <string>

#include "worker/engine/target/config_forms.h"
#include "worker/engine/target/exclude_list.h"

namespace slipway::engine {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kMixed = "MIXED_PRECISION";

bool IsAwq(std::string_view algorithm) { return algorithm.ends_with("_AWQ"); }

bool NamesGroupSize(std::string_view algorithm) {
  return IsAwq(algorithm) || algorithm == "NVFP4" || algorithm == "W4A16_NVFP4" || algorithm == "MXFP8";
}

// What quantized_layers says of a layer, and the nested file of the model.
Json LayerConfig(const ModuleGroup& group) {
  const std::string_view algorithm = group.layout->algorithm;
  Json layer{{"quant_algo", algorithm}};
  if (NamesGroupSize(algorithm)) {
    layer["group_size"] = group.size;
  }
  if (IsAwq(algorithm)) {
    layer["has_zero_point"] = false;
    layer["pre_quant_scale"] = true;
  }
  return layer;
}

// Of a layer among others: consumers compare with names in upper case.
Json MixedLayerConfig(const ModuleGroup& group) {
  Json layer = LayerConfig(group);
  std::string algorithm(group.layout->algorithm);
  std::ranges::transform(algorithm, algorithm.begin(), [](unsigned char letter) { return std::toupper(letter); });
  layer["quant_algo"] = algorithm;
  return layer;
}

Json Numbers(bool dynamic, int bits, std::string_view type, std::int32_t group_size) {
  Json numbers{{"dynamic", dynamic}, {"num_bits", bits}, {"type", type}};
  if (group_size != 0) {
    numbers["group_size"] = group_size;
  }
  return numbers;
}

Json ConfigGroup(const ModuleGroup& group, const Json& targets) {
  const Layout& layout = *group.layout;
  Json config;
  if (layout.activations != Activations::kNone) {
    const bool blocks = InputBitsOf(layout) == 4;
    config["input_activations"] = Numbers(layout.activations == Activations::kDynamic, InputBitsOf(layout),
                                          InputTypeOf(layout), blocks ? group.size : 0);
  }
  config["weights"] = Numbers(false, BitsOf(layout), TypeOf(layout), group.size);
  config["targets"] = targets;
  return config;
}

// Model Optimizer describes these alone so.
bool HasConfigGroup(std::string_view algorithm) {
  return algorithm == "FP8" || algorithm == "NVFP4" || algorithm == "W4A16_NVFP4";
}

Json ConfigGroups(const std::vector<ModuleGroup>& groups) {
  if (groups.size() == 1) {
    return {{"group_0", ConfigGroup(groups.front(), Json::array({"Linear"}))}};
  }
  Json config = Json::object();
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const std::set<std::string_view> sorted(groups[i].modules.begin(), groups[i].modules.end());
    config["group_" + std::to_string(i)] = ConfigGroup(groups[i], Json(sorted));
  }
  return config;
}

// In the model's order.
Json QuantizedLayers(const std::vector<QuantizedModule>& modules, const std::vector<ModuleGroup>& groups) {
  Json layers = Json::object();
  std::vector<Json> configs;
  std::ranges::transform(groups, std::back_inserter(configs), MixedLayerConfig);
  std::vector<std::size_t> next(groups.size());
  for (const QuantizedModule& module : modules) {
    for (std::size_t i = 0; module.layout != nullptr && i < groups.size(); ++i) {
      if (next[i] < groups[i].modules.size() && groups[i].modules[next[i]] == module.name) {
        layers.push_back({module.name, configs[i]});
        ++next[i];
      }
    }
  }
  return layers;
}

std::vector<std::string> Excluded(const std::vector<QuantizedModule>& modules, const std::vector<ModuleGroup>& groups) {
  std::vector<std::string_view> quantized;
  for (const ModuleGroup& group : groups) {
    quantized.insert(quantized.end(), group.modules.begin(), group.modules.end());
  }
  return ExcludeList(NamesOfKept(modules), std::move(quantized));
}

}  // namespace

QuantizationFiles MakeModelOptConfig(const std::vector<QuantizedModule>& modules, KvCache kv_cache) {
  const std::vector<ModuleGroup> groups = GroupModules(modules);
  const bool mixed = groups.size() > 1;
  const std::string_view algorithm = mixed ? kMixed : groups.front().layout->algorithm;
  // Of a mixture, what is not listed is not quantized.
  const Json excluded = mixed ? Json::array() : Json(Excluded(modules, groups));
  const Json layers = mixed ? QuantizedLayers(modules, groups) : Json();

  Json flat = Json::object();
  if (mixed || HasConfigGroup(algorithm)) {
    flat["config_groups"] = ConfigGroups(groups);
  }
  if (mixed) {
    flat["quantized_layers"] = layers;
  }
  flat["ignore"] = excluded;
  flat["quant_algo"] = algorithm;
  if (kv_cache == KvCache::kFp8) {
    flat["kv_cache_scheme"] = Numbers(false, 8, "float", 0);
  } else if (kv_cache == KvCache::kNvfp4) {
    flat["kv_cache_scheme"] = "NVFP4";
  }
  flat["producer"] = {{"name", "slipway"}, {"version", SLIPWAY_VERSION}};
  flat["quant_method"] = "modelopt";

  Json nested = mixed ? Json{{"quant_algo", algorithm}} : LayerConfig(groups.front());
  Json quantization{{"quant_algo", nested["quant_algo"]}};
  quantization["kv_cache_quant_algo"] = kv_cache == KvCache::kNone  ? Json()
                                        : kv_cache == KvCache::kFp8 ? Json("FP8")
                                                                    : Json("NVFP4");
  quantization.update(nested);
  if (mixed) {
    quantization["quantized_layers"] = layers;
  } else {
    quantization["exclude_modules"] = excluded;
  }
  // vLLM knows the form of this file by its producer, and refuses another one's; the version is that of the form.
  return {.config = std::move(flat),
          .sidecar = Json{{"producer", {{"name", "modelopt"}, {"version", "0.47.0"}}},
                          {"quantization", std::move(quantization)}}};
}

}  // namespace slipway::engine
