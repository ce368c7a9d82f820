#include "worker/engine/plan/describe_quantization.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "worker/engine/plan/refusal.h"

namespace slipway::engine {
namespace {

using nlohmann::ordered_json;

// Native forms describe one layout with one size of groups, for all modules.
absl::Status CheckOneLayout(const std::vector<QuantizedModule>& modules) {
  const QuantizedModule* first = nullptr;
  for (const QuantizedModule& module : modules) {
    first = first == nullptr && module.layout != nullptr ? &module : first;
    if (module.layout != nullptr && (module.layout != first->layout || module.group != first->group)) {
      return Refused(module.name, fmt::format("is quantized otherwise than {}, which config form {} cannot say: give "
                                              "--config-form modelopt or compressed-tensors, or one rule",
                                              first->name, NameOf(ConfigForm::kNative)));
    }
  }
  return absl::OkStatus();
}

// The methods of native forms but for awq and gptq are for linear layers, which an engine's output layer is not.
absl::Status CheckOutputLayer(const std::vector<QuantizedModule>& modules) {
  for (const QuantizedModule& module : modules) {
    if (module.layout != nullptr && IsOutputLayer(module.name) && module.layout->algorithm != "awq" &&
        module.layout->algorithm != "gptq") {
      return Refused(module.name, fmt::format("is the output layer, to which engines do not apply config form {} ({}): "
                                              "leave it out, or give --config-form modelopt or compressed-tensors",
                                              NameOf(ConfigForm::kNative), module.layout->algorithm));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status DescribeQuantization(ConfigForm form, KvCache kv_cache, std::vector<QuantizedModule> modules,
                                  std::vector<TextFile>& texts) {
  if (form == ConfigForm::kNative) {
    SLIPWAY_RETURN_IF_ERROR(CheckOneLayout(modules));
    SLIPWAY_RETURN_IF_ERROR(CheckOutputLayer(modules));
  }
  // A tied output layer is a linear layer all the same, to engines that look for those.
  if (std::ranges::none_of(modules, [](const QuantizedModule& module) { return IsOutputLayer(module.name); })) {
    modules.push_back({.name = "lm_head"});
  }
  QuantizationFiles files = MakeQuantizationConfig(form, modules, kv_cache);
  const auto config = std::ranges::find(texts, "config.json", &TextFile::path);
  ordered_json json = config == texts.end() ? ordered_json()
                                            : ordered_json::parse(config->content, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return Error(Reason::kInternal, "the plan has no config.json");
  }
  json["quantization_config"] = std::move(files.config);
  const auto print = [](const ordered_json& value, int indent) {
    return value.dump(indent, ' ', false, ordered_json::error_handler_t::replace) + "\n";
  };
  config->content = print(json, 2);
  if (files.sidecar) {
    texts.push_back({.path = "hf_quant_config.json", .content = print(*files.sidecar, 4)});
  }
  return absl::OkStatus();
}

}  // namespace slipway::engine
