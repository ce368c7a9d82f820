#include "worker/engine/target/huggingface_config.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace slipway::engine {
namespace {

using nlohmann::json;

// Fields that the rotary settings are spread over.
constexpr std::array<std::string_view, 4> kRope = {"rope_theta", "rope_scaling", "rope_parameters",
                                                   "partial_rotary_factor"};

// As FP32: what the model computes in.
bool Same(const json& a, const json& b) {
  if (a.is_number() && b.is_number()) {
    return static_cast<float>(a.get<double>()) == static_cast<float>(b.get<double>());
  }
  return a == b;
}

std::string Text(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

// The rotary settings of a config in one spelling: rope_parameters' fields.
json RopeOf(const json& config) {
  json rope = json::object();
  for (const char* holder : {"rope_parameters", "rope_scaling"}) {
    if (const auto found = config.find(holder); found != config.end() && found->is_object()) {
      rope.update(*found);
    }
  }
  for (const char* name : {"rope_theta", "partial_rotary_factor"}) {
    if (const auto found = config.find(name); found != config.end()) {
      rope[name] = *found;
    }
  }
  if (const auto type = rope.find("type"); type != rope.end()) {
    rope["rope_type"] = *type;
    rope.erase("type");
  }
  rope.emplace("rope_type", "default");
  return rope;
}

bool SameRope(const json& a, const json& b) {
  if (a.size() != b.size()) {
    return false;
  }
  for (const auto& [key, value] : a.items()) {
    if (!b.contains(key) || !Same(value, b[key])) {
      return false;
    }
  }
  return true;
}

// The user's config.json on its way to describe the checkpoint.
class UsersConfig {
 public:
  UsersConfig(json config, std::vector<std::string>& warnings) : config_(std::move(config)), warnings_(warnings) {}

  void Set(const std::string& name, const json& value) {
    const auto found = config_.find(name);
    if (found != config_.end() && !Same(*found, value)) {
      warnings_.push_back(fmt::format("config.json: {} is {}, not {} as in --hf-config: so the checkpoint says", name,
                                      Text(value), Text(*found)));
    }
    if (found == config_.end() || !Same(*found, value)) {
      config_[name] = value;
    }
  }

  void SetDefault(const std::string& name, const json& value) { config_.emplace(name, value); }

  // `generated` has rope_theta with rope_scaling or rope_parameters, or nothing of them: no rotary positions.
  void SetRope(const json& generated) {
    if (!generated.contains("rope_theta")) {
      return;
    }
    const json ours = RopeOf(generated);
    json theirs = RopeOf(config_);
    if (!ours.contains("partial_rotary_factor") && theirs.value("partial_rotary_factor", json()) == 1.0) {
      theirs.erase("partial_rotary_factor");  // what the family has anyway
    }
    const std::string type = Text(theirs["rope_type"]);
    const bool can_state = type == R"("default")" || type == R"("linear")" || type == R"("llama3")";
    if (SameRope(ours, theirs)) {
      return;
    }
    if (!can_state && ours["rope_type"] == "default") {
      SetTheta(generated["rope_theta"]);  // the scaling is theirs, which no arguments could state
      return;
    }
    warnings_.push_back(
        fmt::format("config.json: the rotary settings are {}, not {} as in --hf-config: so the checkpoint "
                    "says",
                    Text(ours), Text(theirs)));
    for (const std::string_view field : kRope) {
      const std::string name(field);
      config_.erase(name);
      if (generated.contains(name)) {
        config_[name] = generated[name];
      }
    }
  }

  // transformers 5 calls it dtype. Parts of the model may state it once more.
  void SetDType(std::string_view name) {
    Set(config_.contains("dtype") ? "dtype" : "torch_dtype", name);
    for (const char* const part : {"text_config", "vision_config"}) {
      const auto found = config_.find(part);
      for (const char* const field : {"dtype", "torch_dtype"}) {
        if (found != config_.end() && found->is_object() && found->contains(field)) {
          (*found)[field] = name;
        }
      }
    }
  }

  void Drop(const std::string& name, std::string_view why) {
    if (config_.erase(name) > 0) {
      warnings_.push_back(fmt::format("config.json: {} of --hf-config is left out: {}", name, why));
    }
  }

  // Of parts of the model, too: "text_config".
  void DropEverywhere(const std::string& name, std::string_view why) {
    Drop(name, why);
    for (const auto& [part, fields] : config_.items()) {
      if (fields.is_object() && fields.erase(name) > 0) {
        warnings_.push_back(fmt::format("config.json: {} of {} in --hf-config is left out: {}", name, part, why));
      }
    }
  }

  json Take() { return std::move(config_); }

 private:
  // Where config.json states it: in rope_parameters, or beside rope_scaling.
  void SetTheta(const json& theta) {
    const auto parameters = config_.find("rope_parameters");
    const bool inside = parameters != config_.end() && parameters->is_object() && parameters->contains("rope_theta");
    json& stated = inside ? (*parameters)["rope_theta"] : config_["rope_theta"];
    if (!Same(stated, theta)) {
      warnings_.push_back(fmt::format("config.json: rope_theta is {}, not {} as in --hf-config: so the checkpoint says",
                                      Text(theta), Text(stated)));
      stated = theta;
    }
  }

  json config_;
  std::vector<std::string>& warnings_;
};

json Generate(const Model& model, DType dtype) {
  json config = {{"architectures", json::array({model.architecture->name})},
                 {"model_type", model.architecture->model_type},
                 {"torch_dtype", InfoOf(dtype).torch_name}};
  for (const ConfigField& field : model.architecture->fields) {
    if (auto value = field.value(model.configuration)) {
      config[std::string(field.name)] = *std::move(value);
    }
  }
  return config;
}

}  // namespace

json MakeHuggingFaceConfig(const Model& model, const json& token_ids, DType dtype, bool allow_custom_code,
                           std::vector<std::string>& warnings) {
  json generated = Generate(model, dtype);
  if (!model.hf_config.is_object()) {
    generated.update(token_ids);
    return generated;
  }
  UsersConfig config(model.hf_config, warnings);
  for (const ConfigField& field : model.architecture->fields) {
    const std::string name(field.name);
    if (std::ranges::find(kRope, name) != kRope.end() || !generated.contains(name)) {
      continue;
    }
    field.default_only || model.architecture->beyond_arguments ? config.SetDefault(name, generated[name])
                                                               : config.Set(name, generated[name]);
  }
  if (!model.architecture->beyond_arguments) {
    config.SetRope(generated);
  }
  config.Set("architectures", generated["architectures"]);
  if (!allow_custom_code || !model.hf_config.contains("auto_map")) {
    config.Set("model_type", generated["model_type"]);  // else it is their code's name for it
  }
  config.SetDType(InfoOf(dtype).torch_name);
  for (const auto& [name, id] : token_ids.items()) {
    config.SetDefault(name, id);
  }
  for (const char* const name : {"quantization_config", "compression_config"}) {
    config.DropEverywhere(name, "the exported weights are not quantized");
  }
  if (!allow_custom_code) {
    config.Drop("auto_map", "it names Python code, which is only taken along with --allow-custom-code");
  }
  return config.Take();
}

}  // namespace slipway::engine
