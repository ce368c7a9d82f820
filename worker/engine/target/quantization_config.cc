#include "worker/engine/target/quantization_config.h"

#include <algorithm>

#include "worker/engine/quantize/module_patterns.h"
#include "worker/engine/target/config_forms.h"

namespace slipway::engine {

std::vector<ModuleGroup> GroupModules(const std::vector<QuantizedModule>& modules) {
  std::vector<ModuleGroup> groups;
  for (const QuantizedModule& module : modules) {
    if (module.layout == nullptr) {
      continue;
    }
    const std::int32_t size = module.group != 0 ? module.group : module.layout->coding.group;
    auto group = std::ranges::find_if(
        groups, [&](const ModuleGroup& other) { return other.layout == module.layout && other.size == size; });
    if (group == groups.end()) {
      group = groups.insert(group, {.layout = module.layout, .size = size, .modules = {}});
    }
    group->modules.push_back(module.name);
  }
  return groups;
}

std::vector<std::string_view> NamesOfKept(const std::vector<QuantizedModule>& modules) {
  std::vector<std::string_view> names;
  for (const QuantizedModule& module : modules) {
    if (module.layout == nullptr) {
      names.push_back(module.name);
    }
  }
  return names;
}

std::vector<std::string> WithTransformersNames(const std::vector<std::string_view>& names,
                                               const std::vector<QuantizedModule>& modules) {
  // transformers 5's conversion_mapping.py: GPT-NeoX, Nemotron-H, Qwen2.5-VL. Only the last has both parts.
  struct Renamed {
    std::string_view from;
    std::string_view to;
    bool beside_vision = false;
  };
  constexpr Renamed kRenamed[] = {{"embed_out", "lm_head"},
                                  {"backbone.", "model."},
                                  {"visual.", "model.visual."},
                                  {"model.", "model.language_model.", true}};
  const bool has_vision =
      std::ranges::any_of(modules, [](const QuantizedModule& module) { return module.name.starts_with("visual."); });
  std::vector<std::string> all(names.begin(), names.end());
  for (const std::string_view name : names) {
    for (const Renamed& renamed : kRenamed) {
      if (name.starts_with(renamed.from) && (has_vision || !renamed.beside_vision)) {
        all.push_back(std::string(renamed.to).append(name.substr(renamed.from.size())));
      }
    }
  }
  return all;
}

std::vector<std::string> KeptMatrices(const std::vector<QuantizedModule>& modules) {
  std::vector<std::string_view> kept = NamesOfKept(modules);
  std::erase_if(kept, IsEmbedding);
  return WithTransformersNames(kept, modules);
}

bool IsOutputLayer(std::string_view module) {
  return module == "lm_head" || module.ends_with(".lm_head") || module == "embed_out";
}

bool QuantizesOutputLayer(const std::vector<QuantizedModule>& modules) {
  return std::ranges::any_of(
      modules, [](const QuantizedModule& module) { return module.layout != nullptr && IsOutputLayer(module.name); });
}

int BitsOf(const Layout& layout) {
  const Element element = layout.coding.element;
  return element == Element::kE2M1 || element == Element::kInt4 ? 4 : 8;
}

std::string_view TypeOf(const Layout& layout) {
  const Element element = layout.coding.element;
  return element == Element::kInt8 || element == Element::kInt4 ? "int" : "float";
}

// E2M1's largest is 6, and NVFP4's scales end at 448.
int InputBitsOf(const Layout& layout) { return layout.input_bound == 6 || layout.input_bound == 6 * 448 ? 4 : 8; }

std::string_view InputTypeOf(const Layout& layout) {
  return layout.input_bound == 127 || layout.input_bound == 127.5F ? "int" : "float";
}

QuantizationFiles MakeQuantizationConfig(ConfigForm form, const std::vector<QuantizedModule>& modules,
                                         KvCache kv_cache) {
  switch (form) {
    case ConfigForm::kModelOpt:
      return MakeModelOptConfig(modules, kv_cache);
    case ConfigForm::kCompressedTensors:
      return {.config = MakeCompressedTensorsConfig(modules, kv_cache), .sidecar = {}};
    case ConfigForm::kNative:
      return {.config = MakeNativeConfig(modules), .sidecar = {}};
    case ConfigForm::kTensorRtLlm:
      break;  // the target describes itself
  }
  return {};
}

std::optional<std::string> WhyNotKvCache(ConfigForm form, KvCache kv_cache) {
  if (kv_cache == KvCache::kNone || form == ConfigForm::kModelOpt) {
    return std::nullopt;
  }
  if (form == ConfigForm::kNative) {
    return "Native forms say nothing of the KV cache: take --config-form modelopt or compressed-tensors, or choose its "
           "format where the model is served.";
  }
  return kv_cache == KvCache::kNvfp4
             ? std::optional<std::string>("compressed-tensors has no NVFP4 KV cache: take --config-form modelopt.")
             : std::nullopt;
}

}  // namespace slipway::engine
