// Megatron-LM's training arguments, in all the spellings that versions since 2020 have used.
#include <algorithm>
#include <array>
#include <string_view>

#include "worker/engine/model/json_fields.h"
#include "worker/engine/model/stated_configuration.h"

namespace slipway::engine {
namespace {

using nlohmann::json;

// Arguments that make another model of it than the tables know, and the values that do not. Null, false and absence
// never do.
struct HarmlessValue {
  const char* argument;
  std::array<std::string_view, 3> values;  // as JSON text
};

constexpr std::array kStructure = std::to_array<HarmlessValue>({
    {"num_experts", {"0"}},
    {"multi_latent_attention", {}},
    {"mtp_num_layers", {"0"}},
    {"hybrid_layer_pattern", {"\"\""}},
    {"hybrid_override_pattern", {"\"\""}},
    {"is_hybrid_model", {}},
    {"linear_attention_freq", {}},
    {"experimental_attention_variant", {}},
    {"attention_output_gate", {}},
    {"softmax_type", {"\"vanilla\""}},
    {"qk_l2_norm", {}},
    {"no_rope_freq", {}},
    {"heterogeneous_layers_config_path", {}},
    {"heterogeneous_layers_config_encoded_json", {}},
    {"apply_residual_connection_post_layernorm", {}},
    {"window_attn_skip_freq", {}},
    {"attn_logit_softcapping", {"0", "0.0"}},
    {"activation_func_clamp_value", {}},
    {"glu_linear_offset", {"0", "0.0"}},
    {"quick_geglu", {}},
    {"squared_relu", {}},
    {"rotary_interleaved", {}},
    {"rotary_percent", {"1", "1.0"}},
    {"position_embedding_type", {"\"rope\"", "\"learned_absolute\""}},  // the latter: see ReadPositions
    {"use_mup", {}},
});

std::vector<std::string> Unsupported(const json& arguments) {
  std::vector<std::string> found;
  for (const HarmlessValue& row : kStructure) {
    const auto value = arguments.find(row.argument);
    if (value == arguments.end() || value->is_null() || *value == false) {
      continue;
    }
    const std::string text = value->dump(-1, ' ', false, json::error_handler_t::replace);
    if (std::ranges::find(row.values, text) == row.values.end()) {
      found.push_back(fmt::format("{} is {}", row.argument, text.substr(0, 60)));
    }
  }
  return found;
}

void ReadSizes(JsonFields& fields, StatedConfiguration& stated) {
  stated.layers = fields.Size({"num_layers", "encoder_num_layers"});
  stated.hidden_size = fields.Size({"hidden_size"});
  stated.ffn_hidden_size = fields.Size({"ffn_hidden_size"});
  stated.attention_heads = fields.Size({"num_attention_heads"});
  stated.head_dimension = fields.Size({"kv_channels"});
  stated.vocabulary_size = fields.Size({"vocab_size"});
  stated.maximum_positions = fields.Size({"max_position_embeddings", "seq_length"});
  // num_query_groups has a default of 1 that counts only together with the flag.
  const std::optional<bool> grouped = fields.Flag({"group_query_attention"});
  if (grouped.value_or(false)) {
    stated.query_groups = fields.Size({"num_query_groups"});
  } else if (grouped) {
    stated.query_groups = stated.attention_heads;
  }
}

void ReadSwitches(JsonFields& fields, StatedConfiguration& stated) {
  stated.norm_epsilon = fields.Number({"norm_epsilon", "layernorm_epsilon"});
  stated.normalization = fields.Text({"normalization"});
  stated.zero_centered_gamma = fields.Flag({"apply_layernorm_1p", "layernorm_zero_centered_gamma"});
  stated.qk_norm = fields.Flag({"qk_layernorm"});
  stated.initializer_range = fields.Number({"init_method_std"});
  if (const auto untied = fields.Flag({"untie_embeddings_and_output_weights"})) {
    stated.tied_embeddings = !*untied;
  } else {
    stated.tied_embeddings = fields.Flag({"share_embeddings_and_output_weights"});
  }
  stated.linear_bias = fields.Flag({"add_bias_linear"});
  if (const auto disabled = fields.Flag({"disable_bias_linear"}); disabled && !stated.linear_bias) {
    stated.linear_bias = !*disabled;
  }
  stated.qkv_bias = fields.Flag({"add_qkv_bias"});
  if (stated.linear_bias.value_or(false)) {
    stated.qkv_bias = true;
  }
  stated.gated = fields.Flag({"swiglu"});
  if (stated.gated.value_or(false)) {
    stated.activation = "silu";
  }
}

void ReadPositions(JsonFields& fields, StatedConfiguration& stated) {
  // Until 2023 rotary positions were a switch beside a default of "learned_absolute".
  const std::optional<std::string> type = fields.Text({"position_embedding_type"});
  if (type == "learned_absolute" && !fields.Flag({"use_rotary_position_embeddings"}).value_or(false)) {
    stated.unsupported.emplace_back("position_embedding_type is \"learned_absolute\"");
  }
  stated.rotary_base = fields.Number({"rotary_base"});
  if (const auto scaled = fields.Flag({"use_rope_scaling"})) {
    constexpr double kDefaultFactor = 8.0;
    stated.llama3_rope_factor = *scaled ? fields.Number({"rope_scaling_factor"}).value_or(kDefaultFactor) : 0.0;
  }
  constexpr const char* kLinear = "rotary_seq_len_interpolation_factor";
  constexpr const char* kLinearInConfiguration = "seq_len_interpolation_factor";
  if (fields.Has(kLinear) || fields.Has(kLinearInConfiguration)) {
    stated.linear_rope_factor = fields.Number({kLinear, kLinearInConfiguration}).value_or(0.0);
  }
}

// (left, right), counted without the current token; -1 is unlimited.
absl::Status ReadWindow(const json& arguments, StatedConfiguration& stated) {
  const auto window = arguments.find("window_size");
  if (window == arguments.end()) {
    return absl::OkStatus();
  }
  stated.sliding_window = 0;
  if (window->is_null()) {
    return absl::OkStatus();
  }
  const json& left = window->is_array() && !window->empty() ? window->front() : *window;
  if (!left.is_number_integer() || left.get<std::int64_t>() < -1 || left.get<std::int64_t>() > kMaximumExtent) {
    return Error(Reason::kConfigurationInvalid, "arguments: window_size is not a window of positions");
  }
  if (left.get<std::int64_t>() >= 0) {
    stated.sliding_window = left.get<std::int64_t>() + (window->is_array() ? 1 : 0);
  }
  return absl::OkStatus();
}

// torch.dtype, however it was written: "torch.bfloat16", "bfloat16", or as an object that names it.
std::optional<DType> ReadDType(const json& arguments) {
  if (const auto found = arguments.find("params_dtype"); found != arguments.end()) {
    const json* name = &*found;
    for (const char* key : {"opaque", "enum", "global"}) {
      if (found->is_object() && found->contains(key)) {
        name = &(*found)[key];
      }
    }
    if (name->is_string()) {
      std::string text = name->get<std::string>();
      text.erase(0, text.rfind('.') + 1);
      if (const auto dtype = DTypeFromTorchName(text)) {
        return dtype;
      }
    }
  }
  const auto is_set = [&](const char* flag) {
    const auto found = arguments.find(flag);
    return found != arguments.end() && *found == true;
  };
  if (is_set("bf16")) {
    return DType::kBF16;
  }
  if (is_set("fp16")) {
    return DType::kF16;
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<StatedConfiguration> ReadArguments(const json& arguments) {
  StatedConfiguration stated;
  if (!arguments.is_object() || arguments.empty()) {
    return stated;
  }
  JsonFields fields(arguments, "training arguments");
  stated.unsupported = Unsupported(arguments);
  ReadSizes(fields, stated);
  ReadSwitches(fields, stated);
  ReadPositions(fields, stated);
  SLIPWAY_RETURN_IF_ERROR(fields.status());
  SLIPWAY_RETURN_IF_ERROR(ReadWindow(arguments, stated));
  stated.parameters_dtype = ReadDType(arguments);
  return stated;
}

}  // namespace slipway::engine
