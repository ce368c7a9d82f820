#include "worker/engine/model/resolve.h"

#include <algorithm>
#include <string_view>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"
#include "worker/engine/model/derive.h"

namespace slipway::engine {
namespace {

using Stated = StatedConfiguration;
using Tensors = std::map<std::string, CanonicalTensor>;
using Notes = std::vector<std::string>;

constexpr std::int64_t kMaximumLayers = 1 << 16;
constexpr std::int64_t kMaximumHeads = 1 << 16;
constexpr std::int64_t kMaximumExperts = 1 << 16;
constexpr std::int64_t kMaximumHeadDimension = 1 << 16;
constexpr const char* kEmbedding = "embedding.word_embeddings.weight";

// A setting by its name in Megatron's arguments; in a group (experts, latent attention, ...) or not.
template <typename Value>
struct Field {
  std::string_view name;
  std::optional<Value> Stated::*member;
  [[nodiscard]] std::optional<Value>& Of(Stated& stated) const { return stated.*member; }
};
template <typename Group, typename Value>
struct GroupField {
  std::string_view name;
  Group Stated::*group;
  std::optional<Value> Group::*member;
  [[nodiscard]] std::optional<Value>& Of(Stated& stated) const { return stated.*group.*member; }
};

// What must be the same wherever it is stated.
constexpr auto kSizes = std::to_array<Field<std::int64_t>>({
    {"num_layers", &Stated::layers},
    {"hidden_size", &Stated::hidden_size},
    {"ffn_hidden_size", &Stated::ffn_hidden_size},
    {"num_attention_heads", &Stated::attention_heads},
    {"num_query_groups", &Stated::query_groups},
    {"kv_channels", &Stated::head_dimension},
});

// What one of the two knows better.
constexpr auto kSettings = std::make_tuple(
    Field<std::int64_t>{"max_position_embeddings", &Stated::maximum_positions},
    Field<double>{"layernorm_epsilon", &Stated::norm_epsilon},
    Field<bool>{"apply_layernorm_1p", &Stated::zero_centered_gamma},
    Field<bool>{"share_embeddings_and_output_weights", &Stated::tied_embeddings}, Field<bool>{"swiglu", &Stated::gated},
    Field<std::string>{"activation", &Stated::activation}, Field<std::string>{"normalization", &Stated::normalization},
    Field<bool>{"parallel_attention", &Stated::parallel_attention}, Field<double>{"rotary_base", &Stated::rotary_base},
    Field<double>{"rotary_percent", &Stated::rotary_percent},
    Field<double>{"rope_scaling_factor", &Stated::llama3_rope_factor},
    Field<double>{"rotary_seq_len_interpolation_factor", &Stated::linear_rope_factor},
    Field<std::int64_t>{"window_size", &Stated::sliding_window},
    Field<double>{"init_method_std", &Stated::initializer_range});

using Experts = ExpertsConfiguration;
using Latent = LatentAttentionConfiguration;
using Indexer = IndexerConfiguration;
using Linear = LinearAttentionConfiguration;
using Mamba = MambaConfiguration;
constexpr auto kGroupSettings = std::make_tuple(
    GroupField<Experts, std::int64_t>{"num_experts", &Stated::experts, &Experts::count},
    GroupField<Experts, std::int64_t>{"moe_router_topk", &Stated::experts, &Experts::active},
    GroupField<Experts, std::int64_t>{"moe_ffn_hidden_size", &Stated::experts, &Experts::ffn_hidden_size},
    GroupField<Experts, std::int64_t>{"moe_shared_expert_intermediate_size", &Stated::experts,
                                      &Experts::shared_ffn_hidden_size},
    GroupField<Experts, std::int64_t>{"moe_latent_size", &Stated::experts, &Experts::latent_size},
    GroupField<Experts, std::int64_t>{"moe_router_num_groups", &Stated::experts, &Experts::groups},
    GroupField<Experts, std::int64_t>{"moe_router_group_topk", &Stated::experts, &Experts::active_groups},
    GroupField<Experts, std::string>{"moe_router_score_function", &Stated::experts, &Experts::score_function},
    GroupField<Experts, double>{"moe_router_topk_scaling_factor", &Stated::experts, &Experts::scaling},
    GroupField<Latent, std::int64_t>{"q_lora_rank", &Stated::latent, &Latent::query_rank},
    GroupField<Latent, std::int64_t>{"kv_lora_rank", &Stated::latent, &Latent::key_value_rank},
    GroupField<Latent, std::int64_t>{"qk_head_dim", &Stated::latent, &Latent::nope_dimension},
    GroupField<Latent, std::int64_t>{"qk_pos_emb_head_dim", &Stated::latent, &Latent::rope_dimension},
    GroupField<Latent, std::int64_t>{"v_head_dim", &Stated::latent, &Latent::value_dimension},
    GroupField<Indexer, std::int64_t>{"dsa_indexer_n_heads", &Stated::indexer, &Indexer::heads},
    GroupField<Indexer, std::int64_t>{"dsa_indexer_head_dim", &Stated::indexer, &Indexer::head_dimension},
    GroupField<Indexer, std::int64_t>{"dsa_indexer_topk", &Stated::indexer, &Indexer::tokens},
    GroupField<Indexer, bool>{"dsa_indexer_rope_interleaved", &Stated::indexer, &Indexer::interleaved},
    GroupField<Linear, std::int64_t>{"linear_num_key_heads", &Stated::linear_attention, &Linear::key_heads},
    GroupField<Linear, std::int64_t>{"linear_num_value_heads", &Stated::linear_attention, &Linear::value_heads},
    GroupField<Linear, std::int64_t>{"linear_key_head_dim", &Stated::linear_attention, &Linear::key_dimension},
    GroupField<Linear, std::int64_t>{"linear_value_head_dim", &Stated::linear_attention, &Linear::value_dimension},
    GroupField<Linear, std::int64_t>{"linear_conv_kernel_dim", &Stated::linear_attention, &Linear::kernel},
    GroupField<Mamba, std::int64_t>{"mamba_num_heads", &Stated::mamba, &Mamba::heads},
    GroupField<Mamba, std::int64_t>{"mamba_head_dim", &Stated::mamba, &Mamba::head_dimension},
    GroupField<Mamba, std::int64_t>{"mamba_num_groups", &Stated::mamba, &Mamba::groups},
    GroupField<Mamba, std::int64_t>{"mamba_state_dim", &Stated::mamba, &Mamba::state_dimension},
    GroupField<Mamba, std::int64_t>{"mamba_conv_kernel", &Stated::mamba, &Mamba::kernel},
    GroupField<Mamba, std::int64_t>{"mamba_chunk_size", &Stated::mamba, &Mamba::chunk});

// FP32 is what the model computes in: 1e-05 and 9.999999747378752e-06 are one epsilon.
template <typename Value>
bool Same(const Value& a, const Value& b) {
  if constexpr (std::is_same_v<Value, double>) {
    return static_cast<float>(a) == static_cast<float>(b);
  } else {
    return a == b;
  }
}

// Where both speak, one is followed and the difference noted.
template <typename SettingField>
void MergeSetting(const SettingField& field, Stated& hf_config, bool config_wins, Stated& merged, Notes& notes) {
  const auto& theirs = field.Of(hf_config);
  auto& ours = field.Of(merged);
  if (!theirs) {
    return;
  }
  if (ours && !Same(*ours, *theirs)) {
    notes.push_back(fmt::format("{}: the training arguments say {}, --hf-config says {}; the {} followed", field.name,
                                *ours, *theirs, config_wins ? "latter is" : "arguments are"));
  }
  if (!ours || config_wins || Same(*ours, *theirs)) {
    ours = theirs;  // as the user spells it
  }
}

absl::StatusOr<Stated> Merge(const Stated& arguments, Stated hf_config, bool config_wins, Notes& notes) {
  Stated merged = arguments;
  for (const auto& [name, member] : kSizes) {
    const auto& theirs = hf_config.*member;
    if (theirs && merged.*member && *theirs != *(merged.*member)) {
      return Error(Reason::kConfigurationInvalid,
                   fmt::format("{} is {} in the training arguments and {} in --hf-config: another model's directory?",
                               name, *(merged.*member), *theirs));
    }
    if (theirs) {
      merged.*member = theirs;
    }
  }
  const auto merge = [&](const auto&... fields) { (MergeSetting(fields, hf_config, config_wins, merged, notes), ...); };
  std::apply(merge, kSettings);
  std::apply(merge, kGroupSettings);
  if (hf_config.hybrid) {
    if (arguments.hybrid && *arguments.layer_kinds != *hf_config.layer_kinds) {
      return Error(Reason::kConfigurationInvalid,
                   "the kinds of layers in the training arguments are others than in --hf-config");
    }
    merged.layer_kinds = hf_config.layer_kinds;
    merged.hybrid = true;
    if (arguments.position_embedding == "rope") {
      notes.emplace_back("position_embedding_type: the training arguments say rope, the model of --hf-config has none");
    }
    merged.position_embedding = hf_config.position_embedding;
  }
  merged.vision = hf_config.vision;
  // Models round their vocabulary up; arguments have the tokenizer's size.
  if (hf_config.vocabulary_size) {
    merged.vocabulary_size = hf_config.vocabulary_size;
  }
  if (!merged.parameters_dtype) {
    merged.parameters_dtype = hf_config.parameters_dtype;
  }
  return merged;
}

struct Bound {
  std::string_view name;
  std::int64_t value;
  std::int64_t maximum;
};

absl::Status CheckBounds(std::initializer_list<Bound> bounds) {
  for (const Bound& bound : bounds) {
    if (bound.value <= 0 || bound.value > bound.maximum) {
      return Error(Reason::kConfigurationInvalid,
                   bound.value == 0
                       ? fmt::format("{} is neither stated nor to be seen in the tensors", bound.name)
                       : fmt::format("{} is {}, not between 1 and {}", bound.name, bound.value, bound.maximum));
    }
  }
  return absl::OkStatus();
}

// Products of these stay far from overflow. What a model does not have is as good as 1.
absl::Status CheckBounds(const ModelConfiguration& c) {
  constexpr std::int64_t kMaximumWidth = std::int64_t{1} << 30;
  SLIPWAY_RETURN_IF_ERROR(CheckBounds({{"num_layers", c.layers, kMaximumLayers},
                                       {"hidden_size", c.hidden_size, kMaximumWidth},
                                       {"ffn_hidden_size", c.ffn_hidden_size, kMaximumWidth},
                                       {"num_attention_heads", c.attention_heads, kMaximumHeads},
                                       {"num_query_groups", c.query_groups, kMaximumHeads},
                                       {"kv_channels", c.head_dimension, kMaximumHeadDimension},
                                       {"vocab_size", c.vocabulary_size, kMaximumWidth}}));
  SLIPWAY_RETURN_IF_ERROR(CheckBounds(
      {{"num_experts", c.experts.count.value_or(1), kMaximumExperts},
       {"moe_ffn_hidden_size", c.experts.ffn_hidden_size.value_or(1), kMaximumWidth},
       {"moe_shared_expert_intermediate_size", c.experts.shared_ffn_hidden_size.value_or(1), kMaximumWidth}}));
  if (c.latent_attention) {
    SLIPWAY_RETURN_IF_ERROR(
        CheckBounds({{"q_lora_rank", c.latent.query_rank.value_or(1), kMaximumWidth},
                     {"kv_lora_rank", c.latent.key_value_rank.value_or(0), kMaximumWidth},
                     {"qk_pos_emb_head_dim", c.latent.rope_dimension.value_or(0), kMaximumHeadDimension},
                     {"qk_head_dim", c.latent.nope_dimension.value_or(0), kMaximumHeadDimension},
                     {"v_head_dim", c.latent.value_dimension.value_or(0), kMaximumHeadDimension},
                     {"dsa_indexer_n_heads", c.indexer.heads.value_or(1), kMaximumHeads},
                     {"dsa_indexer_head_dim", c.indexer.head_dimension.value_or(1), kMaximumHeadDimension}}));
  }
  constexpr std::int64_t kMaximumPatch = 1 << 12;
  SLIPWAY_RETURN_IF_ERROR(
      CheckBounds({{"vision_config: depth", c.vision.layers.value_or(1), kMaximumLayers},
                   {"vision_config: num_heads", c.vision.heads.value_or(1), kMaximumHeads},
                   {"vision_config: hidden_size", c.vision.hidden_size.value_or(1), kMaximumWidth},
                   {"vision_config: in_channels", c.vision.channels.value_or(1), kMaximumPatch},
                   {"vision_config: patch_size", c.vision.patch_size.value_or(1), kMaximumPatch},
                   {"vision_config: temporal_patch_size", c.vision.frames.value_or(1), kMaximumPatch},
                   {"vision_config: spatial_merge_size", c.vision.merge_size.value_or(1), kMaximumPatch}}));
  if (c.vision.mergers.value_or(0) > kMaximumLayers) {
    return Error(Reason::kConfigurationInvalid,
                 fmt::format("vision_config: deepstack_visual_indexes has {} members", *c.vision.mergers));
  }
  if (c.attention_heads % c.query_groups != 0) {
    return Error(Reason::kConfigurationInvalid,
                 fmt::format("num_attention_heads {} is not a multiple of num_query_groups {}", c.attention_heads,
                             c.query_groups));
  }
  return absl::OkStatus();
}

absl::Status SetVocabulary(const TensorEvidence& evidence, const Stated& stated, ModelConfiguration& c, Notes& notes) {
  c.padded_vocabulary_size = evidence.Extent(kEmbedding, 0).value_or(0);
  c.vocabulary_size = stated.vocabulary_size.value_or(c.padded_vocabulary_size);
  if (c.vocabulary_size > c.padded_vocabulary_size && c.padded_vocabulary_size > 0) {
    return Error(Reason::kTensorShapeMismatch,
                 fmt::format("the vocabulary has {} words, the embedding only {} rows", c.vocabulary_size,
                             c.padded_vocabulary_size),
                 {.tensor = kEmbedding});
  }
  if (!stated.vocabulary_size) {
    notes.push_back(fmt::format("vocab_size is not stated: all {} rows of the embedding are taken, padding included",
                                c.padded_vocabulary_size));
  }
  return absl::OkStatus();
}

// Megatron's default where nothing states or shows the value.
template <typename Value>
Value OrDefault(const std::optional<Value>& stated, Value fallback, std::string_view name, Notes& notes) {
  if (!stated) {
    notes.push_back(fmt::format("{} is not stated: Megatron's default {} is taken", name, fallback));
  }
  return stated.value_or(fallback);
}

void SetNumbers(const Stated& stated, ModelConfiguration& c, Notes& notes) {
  c.norm_epsilon = OrDefault(stated.norm_epsilon, c.norm_epsilon, "layernorm_epsilon", notes);
  c.rotary_base = OrDefault(stated.rotary_base, c.rotary_base, "rotary_base", notes);
  c.rotary_percent = stated.rotary_percent.value_or(1.0);
  c.position_embedding = stated.position_embedding.value_or("rope");
  c.maximum_positions = stated.maximum_positions.value_or(0);
  c.zero_centered_gamma = stated.zero_centered_gamma.value_or(false);
  c.initializer_range = stated.initializer_range;
  const auto nonzero = [](auto value) { return value.value_or(0) > 0 ? value : std::nullopt; };
  c.llama3_rope_factor = nonzero(stated.llama3_rope_factor);
  c.linear_rope_factor = nonzero(stated.linear_rope_factor);
  c.sliding_window = nonzero(stated.sliding_window);
}

// What a layer shows nothing of is there all the same, except in a hybrid: so that its tensors are missed.
void CompleteKinds(Feed feed, std::vector<LayerKind>& kinds) {
  for (LayerKind& kind : kinds) {
    kind.mixer = kind.mixer == Mixer::kNone ? Mixer::kAttention : kind.mixer;
    kind.feed = kind.feed == Feed::kNone ? feed : kind.feed;
  }
}

// What the configuration says of layers, where it does and speaks of as many; else what their tensors show.
void SetLayers(const TensorEvidence& evidence, const Stated& stated, ModelConfiguration& c) {
  c.layers = stated.layers.value_or(0);
  c.layer_kinds = evidence.layer_kinds();
  if (stated.layer_kinds && std::cmp_equal(stated.layer_kinds->size(), c.layers)) {
    c.layer_kinds = *stated.layer_kinds;
    const std::size_t seen = stated.hybrid ? 0 : std::min(c.layer_kinds.size(), evidence.layer_kinds().size());
    for (std::size_t layer = 0; layer < seen; ++layer) {
      // Experts' frequency says nothing of the mixers.
      if (evidence.layer_kinds()[layer].mixer != Mixer::kNone && c.layer_kinds[layer].mixer == Mixer::kAttention) {
        c.layer_kinds[layer].mixer = evidence.layer_kinds()[layer].mixer;
      }
    }
  }
  if (c.layers > 0 && c.layers <= kMaximumLayers) {
    c.layer_kinds.resize(static_cast<std::size_t>(c.layers));
  }
  c.prediction_kinds = evidence.prediction_kinds();
  c.prediction_depth = evidence.prediction_depth();
  const bool hybrid = stated.hybrid || std::ranges::count(c.layer_kinds, Mixer::kMamba, &LayerKind::mixer) > 0;
  if (!hybrid) {
    CompleteKinds(Feed::kDense, c.layer_kinds);
    CompleteKinds(c.layer_kinds.empty() ? Feed::kDense : c.layer_kinds.back().feed, c.prediction_kinds);
    const auto predictions = static_cast<std::size_t>(std::min(stated.prediction_layers.value_or(0), kMaximumLayers));
    if (c.prediction_kinds.size() < predictions && !c.layer_kinds.empty()) {
      c.prediction_kinds.resize(predictions, c.layer_kinds.back());  // they will be missed by name
    }
  }
  const auto has_experts = [](LayerKind kind) { return kind.feed == Feed::kExperts; };
  c.experts = stated.experts;
  if (std::ranges::none_of(c.layer_kinds, has_experts) && std::ranges::none_of(c.prediction_kinds, has_experts)) {
    c.experts = {};  // a config.json may have defaults for what the model has not
  }
}

}  // namespace

absl::StatusOr<ModelConfiguration> ResolveConfiguration(const Stated& arguments, const Stated& hf_config,
                                                        bool config_wins, const Tensors& tensors, Notes& notes) {
  SLIPWAY_ASSIGN_OR_RETURN(Stated stated, Merge(arguments, hf_config, config_wins, notes));
  const TensorEvidence evidence(tensors);
  evidence.Complete(stated);

  ModelConfiguration c;
  c.patterns = evidence.patterns();
  SLIPWAY_RETURN_IF_ERROR(SetVocabulary(evidence, stated, c, notes));
  SetLayers(evidence, stated, c);
  if (c.experts.count) {
    constexpr std::int64_t kActive = 2;
    c.experts.active = OrDefault(c.experts.active, kActive, "moe_router_topk", notes);
  }
  c.hidden_size = stated.hidden_size.value_or(0);
  c.ffn_hidden_size = stated.ffn_hidden_size.value_or(0);
  c.attention_heads = stated.attention_heads.value_or(0);
  c.query_groups = stated.query_groups.value_or(0);
  c.head_dimension = stated.head_dimension.value_or(0);
  c.tied_embeddings = *stated.tied_embeddings;
  c.gated = *stated.gated;
  c.activation = stated.activation.value_or("silu");
  c.normalization = *stated.normalization;
  c.qkv_bias = *stated.qkv_bias;
  c.linear_bias = *stated.linear_bias;
  c.qk_norm = *stated.qk_norm;
  constexpr std::string_view kQueryNorm = "decoder.layers.{layer}.self_attention.q_layernorm.weight";
  c.full_qk_norm = c.qk_norm && evidence.Extent(kQueryNorm, 0) != c.head_dimension;
  c.latent_attention = *stated.latent_attention;
  c.parallel_attention = stated.parallel_attention.value_or(!c.Has("decoder.layers.{layer}.pre_mlp_layernorm.weight"));
  c.attention_gate = stated.attention_gate.value_or(false);
  c.rotary_layers = stated.rotary_layers;
  c.latent = stated.latent;
  c.indexer = stated.indexer;
  c.yarn = stated.yarn;
  c.linear_attention = stated.linear_attention;
  c.mamba = stated.mamba;
  c.vision = stated.vision;
  SetNumbers(stated, c, notes);
  c.parameters_dtype = stated.parameters_dtype.value_or(evidence.Type(kEmbedding).value_or(DType::kBF16));
  SLIPWAY_RETURN_IF_ERROR(CheckBounds(c));
  if (c.maximum_positions == 0) {
    return Error(Reason::kConfigurationInvalid, "max_position_embeddings is stated nowhere");
  }
  return c;
}

}  // namespace slipway::engine
