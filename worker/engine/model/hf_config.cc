// config.json of the families in the tables. Rotary settings have three spellings: rope_theta with rope_scaling (with
// "type" or "rope_type" inside), and rope_parameters, which holds both (transformers 5).
#include <string>

#include "worker/engine/model/architecture.h"
#include "worker/engine/model/json_fields.h"
#include "worker/engine/model/stated_configuration.h"

namespace slipway::engine {
namespace {

using nlohmann::json;

// Other kinds of scaling change no weight and stay as the user wrote them (target/huggingface_config.h).
absl::Status ReadRope(const json& config, StatedConfiguration& stated) {
  stated.rotary_base = std::nullopt;
  for (const char* holder : {"rope_parameters", "rope_scaling"}) {
    const auto found = config.find(holder);
    if (found == config.end() || found->is_null()) {
      continue;
    }
    if (!found->is_object()) {
      return Error(Reason::kConfigurationInvalid, fmt::format("config.json: {} is not an object", holder));
    }
    JsonFields fields(*found, fmt::format("config.json: {}", holder));
    const std::string type = fields.Text({"rope_type", "type"}).value_or("default");
    if (const auto base = fields.Number({"rope_theta"})) {
      stated.rotary_base = base;
    }
    if (type == "llama3" || type == "linear") {
      (type == "llama3" ? stated.llama3_rope_factor : stated.linear_rope_factor) = fields.Number({"factor"});
    }
    SLIPWAY_RETURN_IF_ERROR(fields.status());
  }
  JsonFields fields(config, "config.json");
  if (const auto base = fields.Number({"rope_theta"})) {
    stated.rotary_base = base;
  }
  return fields.status();
}

void ReadBiases(JsonFields& fields, const std::string& model_type, StatedConfiguration& stated) {
  if (model_type == "qwen2") {  // has no field for what it always has
    stated.qkv_bias = true;
    stated.linear_bias = false;
    return;
  }
  stated.qkv_bias = fields.Flag({"attention_bias"}).value_or(false);
  stated.linear_bias = fields.Flag({"mlp_bias"}).value_or(false);
}

}  // namespace

absl::StatusOr<StatedConfiguration> ReadHfConfig(const json& config) {
  StatedConfiguration stated;
  if (!config.is_object()) {
    return Error(Reason::kConfigurationInvalid, "config.json is not a JSON object");
  }
  JsonFields fields(config, "config.json");
  stated.layers = fields.Size({"num_hidden_layers"});
  stated.hidden_size = fields.Size({"hidden_size"});
  stated.ffn_hidden_size = fields.Size({"intermediate_size"});
  stated.attention_heads = fields.Size({"num_attention_heads"});
  stated.query_groups = fields.Size({"num_key_value_heads", "num_attention_heads"});
  stated.head_dimension = fields.Size({"head_dim"});
  stated.vocabulary_size = fields.Size({"vocab_size"});
  stated.maximum_positions = fields.Size({"max_position_embeddings"});
  stated.norm_epsilon = fields.Number({"rms_norm_eps"});
  stated.tied_embeddings = fields.Flag({"tie_word_embeddings"});
  stated.activation = fields.Text({"hidden_act"});
  stated.initializer_range = fields.Number({"initializer_range"});
  if (fields.Flag({"use_sliding_window"}).value_or(true)) {
    stated.sliding_window = fields.Size({"sliding_window"});
  }
  if (const auto part = fields.Number({"partial_rotary_factor"}); part && *part != 1.0) {
    stated.unsupported.push_back(fmt::format("partial_rotary_factor is {}", *part));
  }
  const std::string model_type = fields.Text({"model_type"}).value_or("");
  ReadBiases(fields, model_type, stated);
  stated.qk_norm = model_type == "qwen3";
  stated.gated = true;  // every family of the tables is
  stated.normalization = "RMSNorm";
  if (const auto dtype = fields.Text({"dtype", "torch_dtype"})) {
    stated.parameters_dtype = DTypeFromTorchName(*dtype);
  }
  SLIPWAY_RETURN_IF_ERROR(fields.status());
  SLIPWAY_RETURN_IF_ERROR(ReadRope(config, stated));
  return stated;
}

}  // namespace slipway::engine
