#include "worker/engine/plan/options_json.h"

namespace slipway::engine {

nlohmann::ordered_json OptionsToJson(const ExportOptions& options) {
  nlohmann::ordered_json json{{"targets", options.targets},
                              {"quantization", options.quantization},
                              {"hf_config", options.hf_config},
                              {"architecture", options.architecture}};
  if (options.iteration) {
    json["iteration"] = *options.iteration;
  }
  if (options.dtype) {
    json["dtype"] = std::string(InfoOf(*options.dtype).safetensors_name);
  }
  json["max_shard_bytes"] = options.maximum_shard_bytes;
  json["allow_custom_code"] = options.allow_custom_code;
  json["adapter"] = options.adapter;
  json["adapter_only"] = options.adapter_only;
  json["recipe"] = options.recipe;
  json["kv_cache"] = options.kv_cache;
  json["config_form"] = options.config_form;
  json["scale_search"] = options.scale_search;
  json["ranges"] = options.ranges;
  json["tensor_parallel"] = options.tensor_parallel;
  json["pipeline_parallel"] = options.pipeline_parallel;
  json["expert_parallel"] = options.expert_parallel;
  json["tensorrt_llm_version"] = options.tensorrt_llm_version;
  return json;
}

ExportOptions OptionsFromJson(const nlohmann::json& json) {
  ExportOptions options;
  options.targets = json.at("targets").get<std::vector<std::string>>();
  options.quantization = json.at("quantization");
  options.hf_config = json.at("hf_config");
  options.architecture = json.at("architecture");
  if (const auto iteration = json.find("iteration"); iteration != json.end()) {
    options.iteration = iteration->get<std::int64_t>();
  }
  if (const auto dtype = json.find("dtype"); dtype != json.end()) {
    options.dtype = DTypeFromSafetensorsName(dtype->get<std::string>());
    if (!options.dtype) {
      throw nlohmann::json::other_error::create(501, "unknown dtype", &json);
    }
  }
  options.maximum_shard_bytes = json.at("max_shard_bytes");
  options.allow_custom_code = json.at("allow_custom_code");
  options.adapter = json.at("adapter");
  options.adapter_only = json.at("adapter_only");
  options.recipe = json.at("recipe");
  options.kv_cache = json.at("kv_cache");
  options.config_form = json.at("config_form");
  options.scale_search = json.at("scale_search");
  options.ranges = json.at("ranges");
  // Artifacts from before there were targets with ranks have none of these.
  options.tensor_parallel = json.value("tensor_parallel", std::int64_t{1});
  options.pipeline_parallel = json.value("pipeline_parallel", std::int64_t{1});
  options.expert_parallel = json.value("expert_parallel", std::int64_t{1});
  options.tensorrt_llm_version = json.value("tensorrt_llm_version", std::string());
  return options;
}

}  // namespace slipway::engine
