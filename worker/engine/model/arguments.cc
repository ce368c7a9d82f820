// Megatron-LM's training arguments, in all the spellings that versions since 2020 have used.
#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "worker/engine/model/json_fields.h"
#include "worker/engine/model/stated_configuration.h"

namespace slipway::engine {
namespace {

using nlohmann::json;

constexpr std::int64_t kMaximumStatedLayers = 1 << 16;

// Megatron-Core's, for latent attention.
constexpr double kYarnOriginalPositions = 4096;
constexpr double kYarnBetaFast = 32;
constexpr double kYarnBetaSlow = 1;
constexpr double kYarnMscale = 1;
constexpr double kYarnMscaleAllDim = 0;

// Arguments that make another model of it than most tables know, and the values that do not. Null, false and absence
// never do.
struct HarmlessValue {
  const char* argument;
  std::array<std::string_view, 3> values;  // as JSON text
};

constexpr std::array kStructure = std::to_array<HarmlessValue>({
    {"experimental_attention_variant", {"\"gated_delta_net\"", "\"dsa\""}},
    {"qk_l2_norm", {}},
    {"no_rope_freq", {}},
    {"heterogeneous_layers_config_path", {}},
    {"heterogeneous_layers_config_encoded_json", {}},
    {"apply_residual_connection_post_layernorm", {}},
    {"rotary_interleaved", {}},
    {"use_mup", {}},
    {"moe_apply_probs_on_input", {}},
    {"window_attn_skip_freq", {}},
    {"attn_logit_softcapping", {"0", "0.0"}},
    {"activation_func_clamp_value", {}},
    {"glu_linear_offset", {"0", "0.0"}},
    {"softmax_type", {"\"vanilla\""}},
    {"softmax_scale", {}},
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
  // config.json has one scaling of rotary positions.
  const auto scales = arguments.find("use_rope_scaling");
  const auto interpolates = arguments.find("rotary_seq_len_interpolation_factor");
  if (scales != arguments.end() && *scales == true && interpolates != arguments.end() && !interpolates->is_null() &&
      *interpolates != 1) {
    found.emplace_back("rotary_seq_len_interpolation_factor is set beside use_rope_scaling");
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

// One flag an activation; without any it is GELU.
void ReadActivation(JsonFields& fields, StatedConfiguration& stated) {
  struct Activation {
    const char* flag;
    const char* name;  // Hugging Face's
    bool gated;
  };
  constexpr auto kActivations = std::to_array<Activation>({
      {"swiglu", "silu", true},
      {"geglu", "gelu_pytorch_tanh", true},
      {"quick_geglu", "quick_gelu", true},
      {"squared_relu", "relu2", false},
      {"openai_gelu", "gelu_new", false},
  });
  const std::optional<bool> swiglu = fields.Flag({"swiglu"});
  if (!swiglu) {
    return;  // the arguments do not say
  }
  stated.gated = false;
  stated.activation = "gelu";
  for (const Activation& activation : kActivations) {
    if (fields.Flag({activation.flag}).value_or(false)) {
      stated.gated = activation.gated;
      stated.activation = activation.name;
    }
  }
}

void ReadSwitches(JsonFields& fields, StatedConfiguration& stated) {
  stated.norm_epsilon = fields.Number({"norm_epsilon", "layernorm_epsilon"});
  stated.normalization = fields.Text({"normalization"});
  stated.zero_centered_gamma = fields.Flag({"apply_layernorm_1p", "layernorm_zero_centered_gamma"});
  stated.qk_norm = fields.Flag({"qk_layernorm"});
  stated.attention_gate = fields.Flag({"attention_output_gate"});
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
  ReadActivation(fields, stated);
}

void ReadPositions(JsonFields& fields, StatedConfiguration& stated) {
  // Until 2023 rotary positions were a switch beside a default of "learned_absolute".
  stated.position_embedding = fields.Text({"position_embedding_type"});
  if (fields.Flag({"use_rotary_position_embeddings"}).value_or(false)) {
    stated.position_embedding = "rope";
  }
  stated.rotary_percent = fields.Number({"rotary_percent"});
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

// Latent attention scales its rotary positions by settings of its own, unless rope_type says that it does not.
void ReadYarn(JsonFields& fields, StatedConfiguration& stated) {
  if (stated.position_embedding == "yarn") {
    stated.yarn = {.factor = fields.Number({"yarn_rotary_scaling_factor", "rotary_scaling_factor"}),
                   .original_positions =
                       fields.Number({"yarn_original_max_position_embeddings", "original_max_position_embeddings"}),
                   .beta_fast = fields.Number({"yarn_beta_fast", "beta_fast"}),
                   .beta_slow = fields.Number({"yarn_beta_slow", "beta_slow"}),
                   .mscale = fields.Number({"yarn_mscale", "mscale"}),
                   .mscale_all_dim = fields.Number({"yarn_mscale_all_dim", "mscale_all_dim"}),
                   .truncate = fields.Flag({"yarn_correction_range_round_to_int"})};
    return;
  }
  const double factor = fields.Number({"rotary_scaling_factor"}).value_or(1.0);
  if (fields.Flag({"multi_latent_attention"}).value_or(false) && factor != 1.0 &&
      fields.Text({"rope_type"}).value_or("yarn") == "yarn") {
    stated.yarn = {
        .factor = factor,
        .original_positions = fields.Number({"original_max_position_embeddings"}).value_or(kYarnOriginalPositions),
        .beta_fast = fields.Number({"beta_fast"}).value_or(kYarnBetaFast),
        .beta_slow = fields.Number({"beta_slow"}).value_or(kYarnBetaSlow),
        .mscale = fields.Number({"mscale"}).value_or(kYarnMscale),
        .mscale_all_dim = fields.Number({"mscale_all_dim"}).value_or(kYarnMscaleAllDim),
        .truncate = std::nullopt};
  }
}

// The sizes have defaults, which count only together with the switch.
void ReadLatentAttention(JsonFields& fields, StatedConfiguration& stated) {
  stated.latent_attention = fields.Flag({"multi_latent_attention"});
  if (!stated.latent_attention.value_or(false)) {
    return;
  }
  stated.latent = {.query_rank = fields.Size({"q_lora_rank"}),
                   .key_value_rank = fields.Size({"kv_lora_rank"}),
                   .nope_dimension = fields.Size({"qk_head_dim"}),
                   .rope_dimension = fields.Size({"qk_pos_emb_head_dim"}),
                   .value_dimension = fields.Size({"v_head_dim"})};
  stated.qk_norm = false;  // the same switch means the norms of the compressed queries and keys
  stated.indexer = {.heads = fields.Size({"dsa_indexer_n_heads"}),
                    .head_dimension = fields.Size({"dsa_indexer_head_dim"}),
                    .tokens = fields.Size({"dsa_indexer_topk"}),
                    .interleaved = fields.Flag({"dsa_indexer_rope_interleaved"})};
}

// Layers that predict further tokens; one may be used for all of these.
void ReadPredictionLayers(JsonFields& fields, StatedConfiguration& stated) {
  const json* number = fields.Find({"mtp_num_layers"});
  if (number == nullptr || *number == 0) {
    return;
  }
  stated.prediction_layers = fields.Size({"mtp_num_layers"});
  if (fields.Flag({"mtp_use_repeated_layer"}).value_or(false)) {
    stated.prediction_layers = 1;
  }
}

void ReadStateSpaces(JsonFields& fields, StatedConfiguration& stated) {
  stated.linear_attention = {.key_heads = fields.Size({"linear_num_key_heads"}),
                             .value_heads = fields.Size({"linear_num_value_heads"}),
                             .key_dimension = fields.Size({"linear_key_head_dim"}),
                             .value_dimension = fields.Size({"linear_value_head_dim"}),
                             .kernel = fields.Size({"linear_conv_kernel_dim"})};
  stated.mamba = {.heads = fields.Size({"mamba_num_heads"}),
                  .head_dimension = fields.Size({"mamba_head_dim"}),
                  .groups = fields.Size({"mamba_num_groups"}),
                  .state_dimension = fields.Size({"mamba_state_dim"}),
                  .kernel = std::nullopt,
                  .chunk = fields.Size({"mamba_chunk_size"})};
}

void ReadExperts(JsonFields& fields, StatedConfiguration& stated) {
  const json* count = fields.Find({"num_experts", "num_moe_experts"});
  if (count == nullptr || *count == 0) {
    return;
  }
  stated.experts = {.count = fields.Size({"num_experts", "num_moe_experts"}),
                    .active = fields.Size({"moe_router_topk"}),
                    .ffn_hidden_size = fields.Size({"moe_ffn_hidden_size"}),
                    .shared_ffn_hidden_size = fields.Size({"moe_shared_expert_intermediate_size"}),
                    .latent_size = fields.Size({"moe_latent_size"}),
                    .groups = fields.Size({"moe_router_num_groups"}),
                    .active_groups = fields.Size({"moe_router_group_topk"}),
                    .pre_softmax = fields.Flag({"moe_router_pre_softmax"}),
                    .score_function = fields.Text({"moe_router_score_function"}),
                    .scaling = fields.Number({"moe_router_topk_scaling_factor"}),
                    .auxiliary_loss = std::nullopt};
  // One coefficient, or one for each kind of loss.
  if (const json* loss = fields.Find({"moe_aux_loss_coeff"}); loss != nullptr && loss->is_number()) {
    stated.experts.auxiliary_loss = loss->get<double>();
  }
}

// One letter a layer; "|" marks pipeline stages, what follows "/" are prediction layers.
absl::Status ReadHybridPattern(std::string_view pattern, std::vector<LayerKind>& kinds) {
  for (const char letter : pattern.substr(0, pattern.find('/'))) {
    switch (letter) {
      case '|':
        break;
      case 'M':
        kinds.push_back({Mixer::kMamba, Feed::kNone});
        break;
      case 'G':
        kinds.push_back({Mixer::kLinearAttention, Feed::kNone});
        break;
      case '*':
      case '+':
        kinds.push_back({Mixer::kAttention, Feed::kNone});
        break;
      case '-':
        kinds.push_back({Mixer::kNone, Feed::kDense});
        break;
      case 'E':
        kinds.push_back({Mixer::kNone, Feed::kExperts});
        break;
      default:
        return Error(Reason::kConfigurationInvalid,
                     fmt::format("training arguments: no kind of layer is '{}' in hybrid_layer_pattern", letter));
    }
  }
  return absl::OkStatus();
}

// Which of `layers` an argument means: every n-th by `is_meant(layer, n)`, or a list of 0 and 1; nullopt where it says
// nothing of that kind.
std::optional<std::vector<bool>> Meant(const json* frequency, std::size_t layers,
                                       bool (*is_meant)(std::int64_t layer, std::int64_t n)) {
  std::vector<bool> meant(layers);
  if (frequency == nullptr) {
    return std::nullopt;
  }
  if (frequency->is_number_integer() && frequency->get<std::int64_t>() > 0) {
    for (std::size_t layer = 0; layer < layers; ++layer) {
      meant[layer] = is_meant(static_cast<std::int64_t>(layer), frequency->get<std::int64_t>());
    }
    return meant;
  }
  // NOLINTNEXTLINE(misc-redundant-expression): clang-tidy 14 does not see the numbers
  const auto is_flag = [](const json& value) { return value == 0 || value == 1; };
  if (!frequency->is_array() || frequency->size() != layers || !std::ranges::all_of(*frequency, is_flag)) {
    return std::nullopt;
  }
  for (std::size_t layer = 0; layer < layers; ++layer) {
    meant[layer] = (*frequency)[layer] == 1;
  }
  return meant;
}

bool IsFirstOf(std::int64_t layer, std::int64_t n) { return layer % n == 0; }
bool IsLastOf(std::int64_t layer, std::int64_t n) { return (layer + 1) % n == 0; }
bool IsNotLastOf(std::int64_t layer, std::int64_t n) { return !IsLastOf(layer, n); }

// A hybrid's pattern, or which layers have experts and which linear attention. Where neither is said the tensors tell.
absl::Status ReadLayerKinds(JsonFields& fields, StatedConfiguration& stated) {
  const auto pattern = fields.Text({"hybrid_layer_pattern", "hybrid_override_pattern"});
  SLIPWAY_RETURN_IF_ERROR(fields.status());
  if (pattern && !pattern->empty()) {
    SLIPWAY_RETURN_IF_ERROR(ReadHybridPattern(*pattern, stated.layer_kinds.emplace()));
    stated.layers = static_cast<std::int64_t>(stated.layer_kinds->size());
    stated.hybrid = true;
    return absl::OkStatus();
  }
  if (!stated.layers || *stated.layers > kMaximumStatedLayers) {
    return absl::OkStatus();
  }
  const auto layers = static_cast<std::size_t>(*stated.layers);
  if (const auto without_rope = Meant(fields.Find({"no_rope_freq"}), layers, IsLastOf)) {
    for (const bool is_without : *without_rope) {
      stated.rotary_layers.push_back(is_without ? 0 : 1);
    }
  }
  const auto experts = stated.experts.count ? Meant(fields.Find({"moe_layer_freq"}), layers, IsFirstOf) : std::nullopt;
  const auto linear = Meant(fields.Find({"linear_attention_freq"}), layers, IsNotLastOf);
  if (!experts && (stated.experts.count || !linear)) {
    return absl::OkStatus();
  }
  std::vector<LayerKind>& kinds = stated.layer_kinds.emplace(layers);
  for (std::size_t layer = 0; layer < layers; ++layer) {
    kinds[layer].mixer = linear && (*linear)[layer] ? Mixer::kLinearAttention : Mixer::kAttention;
    kinds[layer].feed = experts && (*experts)[layer] ? Feed::kExperts : Feed::kDense;
  }
  return absl::OkStatus();
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
  ReadYarn(fields, stated);
  ReadLatentAttention(fields, stated);
  ReadPredictionLayers(fields, stated);
  ReadStateSpaces(fields, stated);
  ReadExperts(fields, stated);
  SLIPWAY_RETURN_IF_ERROR(fields.status());
  SLIPWAY_RETURN_IF_ERROR(ReadLayerKinds(fields, stated));
  SLIPWAY_RETURN_IF_ERROR(ReadWindow(arguments, stated));
  stated.parameters_dtype = ReadDType(arguments);
  return stated;
}

}  // namespace slipway::engine
