// config.json of the families in the tables. Rotary settings have three spellings: rope_theta with rope_scaling (with
// "type" or "rope_type" inside), and rope_parameters, which holds both (transformers 5).
#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "worker/engine/model/architecture.h"
#include "worker/engine/model/json_fields.h"
#include "worker/engine/model/stated_configuration.h"

namespace slipway::engine {
namespace {

using nlohmann::json;

constexpr std::int64_t kMaximumSharedExperts = 1 << 16;

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
    if (const auto percent = fields.Number({"partial_rotary_factor"})) {
      stated.rotary_percent = percent;
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

// Experts, wherever families keep their numbers; one that has no size of its own for them means all of its MLPs.
void ReadExperts(JsonFields& fields, StatedConfiguration& stated) {
  ExpertsConfiguration& experts = stated.experts;
  experts.count = fields.Size({"num_experts", "num_local_experts", "n_routed_experts"});
  if (!experts.count) {
    return;
  }
  experts.active = fields.Size({"num_experts_per_tok"});
  experts.ffn_hidden_size = fields.Size({"moe_intermediate_size"});
  if (!experts.ffn_hidden_size) {
    experts.ffn_hidden_size = std::exchange(stated.ffn_hidden_size, std::nullopt);
  }
  experts.shared_ffn_hidden_size =
      fields.Size({"shared_expert_intermediate_size", "moe_shared_expert_intermediate_size"});
  const json* shared = fields.Find({"n_shared_experts"});
  if (!experts.shared_ffn_hidden_size && shared != nullptr && *shared != 0 && experts.ffn_hidden_size) {
    if (const auto number = fields.Size({"n_shared_experts"}); number && *number < kMaximumSharedExperts) {
      experts.shared_ffn_hidden_size = *number * *experts.ffn_hidden_size;
    }
  }
  experts.latent_size = fields.Size({"moe_latent_size"});
  experts.groups = fields.Size({"n_group"});
  experts.active_groups = fields.Size({"topk_group"});
  experts.score_function = fields.Text({"scoring_func"});
  experts.scaling = fields.Number({"routed_scaling_factor"});
}

void ReadMixers(JsonFields& fields, StatedConfiguration& stated) {
  stated.latent = {.query_rank = fields.Size({"q_lora_rank"}),
                   .key_value_rank = fields.Size({"kv_lora_rank"}),
                   .nope_dimension = fields.Size({"qk_nope_head_dim"}),
                   .rope_dimension = fields.Size({"qk_rope_head_dim"}),
                   .value_dimension = fields.Size({"v_head_dim"})};
  if (stated.latent.key_value_rank) {
    stated.head_dimension = std::nullopt;  // means something else there, or nothing
  }
  stated.indexer = {.heads = fields.Size({"index_n_heads"}),
                    .head_dimension = fields.Size({"index_head_dim"}),
                    .tokens = fields.Size({"index_topk"}),
                    .interleaved = fields.Flag({"indexer_rope_interleave"})};
  stated.linear_attention = {.key_heads = fields.Size({"linear_num_key_heads"}),
                             .value_heads = fields.Size({"linear_num_value_heads"}),
                             .key_dimension = fields.Size({"linear_key_head_dim"}),
                             .value_dimension = fields.Size({"linear_value_head_dim"}),
                             .kernel = fields.Size({"linear_conv_kernel_dim"})};
  stated.mamba = {.heads = fields.Size({"mamba_num_heads"}),
                  .head_dimension = fields.Size({"mamba_head_dim"}),
                  .groups = fields.Size({"n_groups"}),
                  .state_dimension = fields.Size({"ssm_state_size"}),
                  .kernel = fields.Size({"conv_kernel"}),
                  .chunk = fields.Size({"chunk_size"})};
}

// Nemotron-H, which has no positions: what each layer is, in one of the spellings of transformers' versions.
void ReadBlockTypes(JsonFields& fields, StatedConfiguration& stated) {
  struct BlockType {
    char letter;
    std::array<std::string_view, 2> names;
    LayerKind kind;
  };
  constexpr auto kBlockTypes = std::to_array<BlockType>({
      {'M', {"linear_attention", "mamba"}, {Mixer::kMamba, Feed::kNone}},
      {'*', {"full_attention", "attention"}, {Mixer::kAttention, Feed::kNone}},
      {'-', {"mlp", "mlp"}, {Mixer::kNone, Feed::kDense}},
      {'E', {"moe", "moe"}, {Mixer::kNone, Feed::kExperts}},
  });
  std::vector<LayerKind> kinds;
  const auto add = [&](const auto& is_meant) {
    const auto* const found = std::ranges::find_if(kBlockTypes, is_meant);
    kinds.push_back(found == kBlockTypes.end() ? LayerKind{Mixer::kNone, Feed::kNone} : found->kind);
  };
  if (const json* list = fields.Find({"layers_block_type"}); list != nullptr && list->is_array()) {
    for (const json& entry : *list) {
      const std::string name = entry.is_string() ? entry.get<std::string>() : "";
      add([&](const BlockType& type) { return std::ranges::find(type.names, name) != type.names.end(); });
    }
  } else if (const auto pattern = fields.Text({"hybrid_override_pattern"})) {
    for (const char letter : *pattern) {
      add([&](const BlockType& type) { return type.letter == letter; });
    }
  } else {
    return;
  }
  stated.layers = static_cast<std::int64_t>(kinds.size());
  stated.layer_kinds = std::move(kinds);
  stated.hybrid = true;
  stated.position_embedding = "none";
}

absl::Status ReadVision(const json& config, VisionConfiguration& vision) {
  const auto found = config.find("vision_config");
  if (found == config.end() || !found->is_object()) {
    return absl::OkStatus();
  }
  JsonFields fields(*found, "config.json: vision_config");
  vision = {.layers = fields.Size({"depth", "num_hidden_layers"}).value_or(0),
            .mergers = std::nullopt,
            .hidden_size = fields.Size({"hidden_size"}),
            .ffn_hidden_size = fields.Size({"intermediate_size"}),
            .heads = fields.Size({"num_heads", "num_attention_heads"}),
            .channels = fields.Size({"in_channels", "in_chans"}),
            .patch_size = fields.Size({"patch_size"}),
            .frames = fields.Size({"temporal_patch_size"}),
            .merge_size = fields.Size({"spatial_merge_size"}),
            .positions = fields.Size({"num_position_embeddings"}),
            .output_size = fields.Size({"out_hidden_size"})};
  if (const json* indexes = fields.Find({"deepstack_visual_indexes"}); indexes != nullptr && indexes->is_array()) {
    vision.mergers = static_cast<std::int64_t>(indexes->size());
  }
  return fields.status();
}

// Of a model that sees, the part that tells of its text; older ones tell of it beside vision_config.
const json& TextPart(const json& config) {
  const auto found = config.find("text_config");
  return found != config.end() && found->is_object() ? *found : config;
}

}  // namespace

absl::StatusOr<StatedConfiguration> ReadHfConfig(const json& whole) {
  StatedConfiguration stated;
  if (!whole.is_object()) {
    return Error(Reason::kConfigurationInvalid, "config.json is not a JSON object");
  }
  const json& config = TextPart(whole);
  JsonFields fields(config, &config == &whole ? "config.json" : "config.json: text_config");
  JsonFields outer(whole, "config.json");
  stated.layers = fields.Size({"num_hidden_layers", "n_layer"});
  stated.hidden_size = fields.Size({"hidden_size", "n_embd"});
  stated.ffn_hidden_size = fields.Size({"intermediate_size", "n_inner", "ffn_hidden_size"});
  stated.attention_heads = fields.Size({"num_attention_heads", "n_head"});
  stated.query_groups = fields.Size({"num_key_value_heads", "num_kv_heads"});
  stated.head_dimension = fields.Size({"head_dim"});
  stated.vocabulary_size = fields.Size({"vocab_size"});
  stated.maximum_positions = fields.Size({"max_position_embeddings", "n_positions"});
  stated.norm_epsilon =
      fields.Number({"rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "norm_epsilon", "norm_eps"});
  stated.tied_embeddings = outer.Flag({"tie_word_embeddings"});  // text_config may say anything
  stated.activation = fields.Text({"hidden_activation", "hidden_act", "mlp_hidden_act", "activation_function"});
  stated.initializer_range = fields.Number({"initializer_range"});
  stated.rotary_percent = fields.Number({"partial_rotary_factor", "rotary_pct"});
  if (fields.Flag({"use_sliding_window"}).value_or(true)) {
    stated.sliding_window = fields.Size({"sliding_window"});
  }
  stated.parallel_attention = fields.Flag({"new_decoder_architecture", "parallel_attn", "use_parallel_residual"});
  if (fields.Flag({"parallel_attn"}).value_or(false)) {
    stated.parallel_attention = true;
  }
  ReadExperts(fields, stated);
  ReadMixers(fields, stated);
  ReadBlockTypes(fields, stated);
  for (JsonFields* part : {&fields, &outer}) {
    if (const auto dtype = part->Text({"dtype", "torch_dtype"})) {
      stated.parameters_dtype = DTypeFromTorchName(*dtype);
    }
    SLIPWAY_RETURN_IF_ERROR(part->status());
  }
  SLIPWAY_RETURN_IF_ERROR(ReadVision(whole, stated.vision));
  SLIPWAY_RETURN_IF_ERROR(ReadRope(config, stated));
  return stated;
}

}  // namespace slipway::engine
