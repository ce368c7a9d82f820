#include "worker/engine/checkpoint/run_config.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"
#include "worker/engine/checkpoint/yaml_document.h"
#include "worker/engine/dtype.h"

namespace slipway::engine {
namespace {

using nlohmann::json;

constexpr const char* kRunConfig = "run_config.yaml";
constexpr const char* kModelOptRunConfig = "modelopt_run_config.yaml";
constexpr std::int64_t kMaximumBytes = 4 << 20;

// Fields of the configuration whose argument has another name.
struct Renaming {
  const char* field;
  const char* argument;
  bool inverse = false;  // a flag that says the opposite
};
constexpr auto kRenamings = std::to_array<Renaming>({
    {"layernorm_epsilon", "norm_epsilon"},
    {"num_moe_experts", "num_experts"},
    {"share_embeddings_and_output_weights", "untie_embeddings_and_output_weights", true},
    {"layernorm_zero_centered_gamma", "apply_layernorm_1p"},
    {"rope_scaling", "use_rope_scaling"},
    {"seq_len_interpolation_factor", "rotary_seq_len_interpolation_factor"},
});

// Activations that have an argument of their own.
struct Activation {
  std::string_view function;
  bool gated;
  const char* argument;
};
constexpr auto kActivations = std::to_array<Activation>({
    {"silu", true, "swiglu"},
    {"swish", true, "swiglu"},
    {"swiglu", true, "swiglu"},
    {"quick_gelu", true, "quick_geglu"},
    {"squared_relu", false, "squared_relu"},
    {"openai_gelu", false, "openai_gelu"},
    {"fast_gelu", false, "openai_gelu"},
    {"gelu_tanh", false, "openai_gelu"},  // see FunctionName
});
// Arguments that are false unless their activation is the one.
constexpr std::array<const char*, 3> kUngatedFlags = {"quick_geglu", "squared_relu", "openai_gelu"};

const json* Find(const json& object, const char* key) {
  if (!object.is_object()) {
    return nullptr;
  }
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

std::string_view TextOf(const json* value) {
  return value != nullptr && value->is_string() ? std::string_view(*value->get_ptr<const std::string*>())
                                                : std::string_view();
}

std::string_view LastComponent(std::string_view dotted) { return dotted.substr(dotted.rfind('.') + 1); }

// A value of the YAML without Python's objects. Recursion is bounded by ParseYaml.
json PlainValue(const json& value) {
  if (value.is_array()) {
    json array = json::array();
    std::ranges::transform(value, std::back_inserter(array), PlainValue);
    return array;
  }
  if (!value.is_object()) {
    return value;
  }
  const std::string_view target = TextOf(Find(value, "_target_"));
  if (target.empty()) {
    json object = json::object();
    for (const auto& [key, inner] : value.items()) {
      object[key] = PlainValue(inner);
    }
    return object;
  }
  if (target.starts_with("torch.") && DTypeFromTorchName(LastComponent(target))) {
    return std::string(target);
  }
  const json* const arguments = Find(value, "_args_");
  const json* const call = Find(value, "_call_");
  if (call != nullptr && *call == true && arguments != nullptr && arguments->is_array() && arguments->size() == 1 &&
      arguments->front().is_primitive()) {
    return {{"enum", std::string(target)}, {"value", arguments->front()}};
  }
  return {{"opaque", std::string(target)}};
}

// "silu" of {"_target_": "torch.nn.functional.silu"}, of "torch.nn.functional.silu", of "<function silu at 0x7f>".
std::string FunctionName(const json& function) {
  std::string_view text = function.is_object() ? TextOf(Find(function, "_target_")) : TextOf(&function);
  constexpr std::string_view kPrinted = "<function ";
  bool tanh = TextOf(Find(function, "approximate")) == "tanh";
  if (const std::size_t printed = text.find(kPrinted); printed != std::string_view::npos) {
    tanh = text.find("approximate='tanh'") != std::string_view::npos;
    text.remove_prefix(printed + kPrinted.size());
    text = text.substr(0, text.find(' '));
  }
  const std::string_view name = LastComponent(text);
  return name == "gelu" && tanh ? "gelu_tanh" : std::string(name);
}

void NameActivation(const json& fields, json& arguments) {
  const json* const function = Find(fields, "activation_func");
  if (function == nullptr || function->is_null()) {
    return;
  }
  const std::string name = FunctionName(*function);
  const json* const unit = Find(fields, "gated_linear_unit");
  const bool gated = unit != nullptr && *unit == true;
  arguments["activation_func"] = name;
  for (const char* const flag : kUngatedFlags) {
    arguments[flag] = false;
  }
  if (!gated) {
    arguments["swiglu"] = false;  // a gated unit of another function is neither
  }
  const auto* const found = std::ranges::find_if(
      kActivations, [&](const Activation& row) { return row.gated == gated && row.function == name; });
  if (found != kActivations.end()) {
    arguments[found->argument] = true;
  }
}

// The number of groups counts in arguments only together with a flag.
void NameQueryGroups(const json& fields, json& arguments) {
  if (const json* const groups = Find(fields, "num_query_groups")) {
    const json* const heads = Find(fields, "num_attention_heads");
    arguments["group_query_attention"] = !groups->is_null() && (heads == nullptr || *heads != *groups);
  }
}

json FieldsToArguments(const json& fields) {
  json arguments = json::object();
  for (const auto& [field, value] : fields.items()) {
    if (field.starts_with('_')) {
      continue;
    }
    const auto* const renaming =
        std::ranges::find_if(kRenamings, [&name = field](const Renaming& row) { return name == row.field; });
    if (renaming == kRenamings.end()) {
      arguments[field] = PlainValue(value);
    } else if (renaming->inverse) {
      arguments[renaming->argument] = value.is_boolean() ? json(!value.get<bool>()) : json();
    } else {
      arguments[renaming->argument] = PlainValue(value);
    }
  }
  NameActivation(fields, arguments);
  NameQueryGroups(fields, arguments);
  return arguments;
}

void FillIn(const json& from, json& into) {
  if (from.is_object()) {
    for (const auto& [key, value] : from.items()) {
      if (!into.contains(key) || into[key].is_null()) {
        into[key] = value;
      }
    }
  }
}

// What Python's str() made of a value.
json Unprinted(const json& value) {
  const std::string_view text = TextOf(&value);
  if (text == "None") {
    return nullptr;
  }
  if (text.empty() || text.starts_with('<')) {
    return value;
  }
  std::string yaml(text);
  if (yaml.starts_with('(') && yaml.ends_with(')')) {
    yaml.front() = '[';
    yaml.back() = ']';
  }
  absl::StatusOr<json> parsed = ParseYaml(yaml, kModelOptRunConfig);
  const bool is_value = parsed.ok() && (parsed->is_number() || parsed->is_boolean() || parsed->is_array());
  return is_value ? *std::move(parsed) : value;
}

absl::StatusOr<json> ReadYamlFile(const SourceDirectory& directory, const char* name) {
  SLIPWAY_ASSIGN_OR_RETURN(const std::string text, directory.ReadSmallFile(name, kMaximumBytes));
  return ParseYaml(text, fmt::format("{}/{}", directory.path(), name));
}

}  // namespace

json RunConfigArguments(const json& document) {
  const json* const model = Find(document, "model");
  if (model == nullptr || !model->is_object()) {
    return json::object();
  }
  json fields = *model;
  const json transformer = fields.contains("transformer") ? fields["transformer"] : json();
  fields.erase("transformer");
  const json metadata = fields.contains("extra_checkpoint_metadata") ? fields["extra_checkpoint_metadata"] : json();
  fields.erase("extra_checkpoint_metadata");
  FillIn(transformer, fields);
  if (const json* const id = Find(metadata, "hf_model_id")) {
    FillIn({{"hf_model_id", *id}}, fields);
  }
  json arguments = FieldsToArguments(fields);
  if (const json* const tokenizer = Find(document, "tokenizer")) {
    for (const char* const key : {"tokenizer_type", "tokenizer_model"}) {
      if (const json* const value = Find(*tokenizer, key); value != nullptr && value->is_string()) {
        arguments[key] = *value;
      }
    }
  }
  return arguments;
}

json ModelOptArguments(const json& document) {
  json fields = json::object();
  if (document.is_object()) {
    for (const auto& [field, value] : document.items()) {
      fields[field] = Unprinted(value);
    }
  }
  return FieldsToArguments(fields);
}

absl::Status CompleteArguments(const SourceDirectory& directory, CommonState& common) {
  if (directory.Exists(kRunConfig)) {
    SLIPWAY_ASSIGN_OR_RETURN(const json document, ReadYamlFile(directory, kRunConfig));
    json arguments = RunConfigArguments(document);
    FillIn(common.arguments, arguments);
    common.arguments = std::move(arguments);
  } else if (common.arguments.empty() && directory.Exists(kModelOptRunConfig)) {
    SLIPWAY_ASSIGN_OR_RETURN(const json document, ReadYamlFile(directory, kModelOptRunConfig));
    common.arguments = ModelOptArguments(document);
  }
  common.layout = LayoutOf(common.arguments);
  return absl::OkStatus();
}

}  // namespace slipway::engine
