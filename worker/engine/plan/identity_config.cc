#include "worker/engine/plan/identity_config.h"

#include <string_view>

#include "worker/engine/plan/source_quantization.h"

namespace slipway::engine {
namespace {

using nlohmann::ordered_json;

// Under either of its names; true where `part` has one.
bool SetDType(std::string_view name, ordered_json& part) {
  bool found = false;
  for (const char* key : {"torch_dtype", "dtype"}) {
    if (const auto at = part.find(key); at != part.end() && (at->is_string() || at->is_null())) {
      *at = name;
      found = true;
    }
  }
  return found;
}

}  // namespace

StatedFamily FamilyOf(const ordered_json& config) {
  StatedFamily family;
  const auto architectures = config.find("architectures");
  if (architectures != config.end() && architectures->is_array() && !architectures->empty() &&
      architectures->front().is_string()) {
    family.architecture = architectures->front().get<std::string>();
  }
  const auto model_type = config.find("model_type");
  if (model_type != config.end() && model_type->is_string()) {
    family.model_type = model_type->get<std::string>();
  }
  return family;
}

std::string MakeIdentityConfig(const Checkpoint& checkpoint, const ExportOptions& options,
                               std::vector<std::string>& warnings) {
  ordered_json config = ordered_json::parse(checkpoint.hf_config, nullptr, /*allow_exceptions=*/false);
  const bool drop_code = config.contains("auto_map") && !options.allow_custom_code;
  if (!drop_code && !options.dtype) {
    return checkpoint.hf_config;
  }
  if (drop_code) {
    config.erase("auto_map");
    warnings.emplace_back(
        "config.json: auto_map is left out: it names Python code, which is only taken along with --allow-custom-code");
  }
  if (options.dtype) {
    RemoveQuantization(config);
    const std::string_view name = InfoOf(*options.dtype).torch_name;
    for (auto& part : config) {
      if (part.is_object()) {
        SetDType(name, part);  // of a composed model
      }
    }
    if (!SetDType(name, config)) {
      config["torch_dtype"] = name;
    }
  }
  return config.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace slipway::engine
