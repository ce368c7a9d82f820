#include "worker/engine/plan/configuration_json.h"

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>

namespace slipway::engine {
namespace {

using nlohmann::ordered_json;

template <typename Value>
ordered_json OrNull(const std::optional<Value>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

ordered_json Counts(const std::vector<LayerKind>& kinds) {
  const auto mixers = [&kinds](Mixer mixer) { return std::ranges::count(kinds, mixer, &LayerKind::mixer); };
  const auto feeds = [&kinds](Feed feed) { return std::ranges::count(kinds, feed, &LayerKind::feed); };
  return {{"attention", mixers(Mixer::kAttention)},
          {"linear_attention", mixers(Mixer::kLinearAttention)},
          {"mamba", mixers(Mixer::kMamba)},
          {"dense", feeds(Feed::kDense)},
          {"experts", feeds(Feed::kExperts)}};
}

char LetterOf(LayerKind kind) {
  switch (kind.mixer) {
    case Mixer::kAttention:
      return '*';
    case Mixer::kLinearAttention:
      return 'G';
    case Mixer::kMamba:
      return 'M';
    case Mixer::kNone:
      break;
  }
  return kind.feed == Feed::kExperts ? 'E' : '-';
}

// Null where layers have a mixer and a feed each.
ordered_json Pattern(const std::vector<LayerKind>& kinds) {
  const auto is_single = [](LayerKind kind) { return kind.mixer == Mixer::kNone || kind.feed == Feed::kNone; };
  if (kinds.empty() || !std::ranges::all_of(kinds, is_single)) {
    return nullptr;
  }
  std::string pattern;
  for (const LayerKind kind : kinds) {
    pattern += LetterOf(kind);
  }
  return pattern;
}

ordered_json ExpertsToJson(const ExpertsConfiguration& experts) {
  if (!experts.count) {
    return nullptr;
  }
  const std::int64_t shared = experts.shared_ffn_hidden_size.value_or(0);
  const std::int64_t width = experts.ffn_hidden_size.value_or(0);
  return {{"count", *experts.count},
          {"active", OrNull(experts.active)},
          {"ffn_hidden_size", OrNull(experts.ffn_hidden_size)},
          {"shared", width > 0 && shared % width == 0 ? ordered_json(shared / width) : ordered_json(nullptr)},
          {"shared_ffn_hidden_size", OrNull(experts.shared_ffn_hidden_size)},
          {"latent_size", OrNull(experts.latent_size)},
          {"groups", OrNull(experts.groups)},
          {"active_groups", OrNull(experts.active_groups)},
          {"score_function", OrNull(experts.score_function)},
          {"scaling", OrNull(experts.scaling)}};
}

ordered_json LatentToJson(const LatentAttentionConfiguration& latent) {
  return {{"query_rank", OrNull(latent.query_rank)},
          {"key_value_rank", OrNull(latent.key_value_rank)},
          {"nope_dimension", OrNull(latent.nope_dimension)},
          {"rope_dimension", OrNull(latent.rope_dimension)},
          {"value_dimension", OrNull(latent.value_dimension)}};
}

ordered_json IndexerToJson(const IndexerConfiguration& indexer) {
  if (!indexer.heads) {
    return nullptr;
  }
  return {{"heads", *indexer.heads},
          {"head_dimension", OrNull(indexer.head_dimension)},
          {"tokens", OrNull(indexer.tokens)}};
}

ordered_json YarnToJson(const YarnConfiguration& yarn) {
  if (!yarn.factor) {
    return nullptr;
  }
  return {{"factor", *yarn.factor},
          {"original_positions", OrNull(yarn.original_positions)},
          {"beta_fast", OrNull(yarn.beta_fast)},
          {"beta_slow", OrNull(yarn.beta_slow)},
          {"mscale", OrNull(yarn.mscale)},
          {"mscale_all_dim", OrNull(yarn.mscale_all_dim)}};
}

ordered_json LinearAttentionToJson(const LinearAttentionConfiguration& linear) {
  return {{"key_heads", OrNull(linear.key_heads)},
          {"value_heads", OrNull(linear.value_heads)},
          {"key_dimension", OrNull(linear.key_dimension)},
          {"value_dimension", OrNull(linear.value_dimension)},
          {"kernel", OrNull(linear.kernel)}};
}

ordered_json MambaToJson(const MambaConfiguration& mamba) {
  return {{"heads", OrNull(mamba.heads)},
          {"head_dimension", OrNull(mamba.head_dimension)},
          {"groups", OrNull(mamba.groups)},
          {"state_dimension", OrNull(mamba.state_dimension)},
          {"kernel", OrNull(mamba.kernel)}};
}

ordered_json Special(const ModelConfiguration& c) {
  ordered_json phrases = ordered_json::array();
  for (const auto& [argument, phrase] : c.special) {
    phrases.push_back(phrase);
  }
  return phrases;
}

// The first of the fields that `config` has as a number, text or switch.
ordered_json FirstOf(const ordered_json& config, std::initializer_list<const char*> fields) {
  for (const char* field : fields) {
    const auto found = config.find(field);
    if (found != config.end() && found->is_primitive() && !found->is_null()) {
      return *found;
    }
  }
  return nullptr;
}

}  // namespace

ordered_json ConfigurationToJson(const ModelConfiguration& c) {
  ordered_json counts = Counts(c.layer_kinds);
  const bool has_linear = counts["linear_attention"] != 0;
  const bool has_mamba = counts["mamba"] != 0;
  return {{"layers", c.layers},
          {"layer_counts", std::move(counts)},
          {"layer_pattern", Pattern(c.layer_kinds)},
          {"prediction_layers",
           static_cast<std::int64_t>(c.prediction_kinds.size()) / std::max<std::int64_t>(1, c.prediction_depth)},
          {"hidden_size", c.hidden_size},
          {"ffn_hidden_size", c.ffn_hidden_size},
          {"attention_heads", c.attention_heads},
          {"query_groups", c.query_groups},
          {"head_dimension", c.head_dimension},
          {"vocabulary_size", c.vocabulary_size},
          {"padded_vocabulary_size", c.padded_vocabulary_size},
          {"maximum_positions", c.maximum_positions},
          {"normalization", c.normalization},
          {"norm_epsilon", c.norm_epsilon},
          {"zero_centered_gamma", c.zero_centered_gamma},
          {"activation", c.activation},
          {"gated", c.gated},
          {"qkv_bias", c.qkv_bias},
          {"linear_bias", c.linear_bias},
          {"qk_norm", c.qk_norm},
          {"attention_gate", c.attention_gate},
          {"parallel_attention", c.parallel_attention},
          {"tied_embeddings", c.tied_embeddings},
          {"position_embedding", c.position_embedding},
          {"rotary_base", c.rotary_base},
          {"rotary_percent", c.rotary_percent},
          {"llama3_rope_factor", OrNull(c.llama3_rope_factor)},
          {"linear_rope_factor", OrNull(c.linear_rope_factor)},
          {"yarn", YarnToJson(c.yarn)},
          {"sliding_window", OrNull(c.sliding_window)},
          {"experts", ExpertsToJson(c.experts)},
          {"latent_attention", c.latent_attention ? LatentToJson(c.latent) : ordered_json(nullptr)},
          {"indexer", IndexerToJson(c.indexer)},
          {"linear_attention", has_linear ? LinearAttentionToJson(c.linear_attention) : ordered_json(nullptr)},
          {"mamba", has_mamba ? MambaToJson(c.mamba) : ordered_json(nullptr)},
          {"special", Special(c)},
          {"parameters_dtype", InfoOf(c.parameters_dtype).torch_name}};
}

ordered_json StatedConfigurationToJson(const ordered_json& config) {
  ordered_json described = {{"layers", FirstOf(config, {"num_hidden_layers"})},
                            {"hidden_size", FirstOf(config, {"hidden_size"})},
                            {"ffn_hidden_size", FirstOf(config, {"intermediate_size"})},
                            {"attention_heads", FirstOf(config, {"num_attention_heads"})},
                            {"query_groups", FirstOf(config, {"num_key_value_heads"})},
                            {"head_dimension", FirstOf(config, {"head_dim"})},
                            {"vocabulary_size", FirstOf(config, {"vocab_size"})},
                            {"maximum_positions", FirstOf(config, {"max_position_embeddings"})},
                            {"activation", FirstOf(config, {"hidden_act", "hidden_activation"})},
                            {"tied_embeddings", FirstOf(config, {"tie_word_embeddings"})},
                            {"rotary_base", FirstOf(config, {"rope_theta"})},
                            {"sliding_window", FirstOf(config, {"sliding_window"})},
                            {"prediction_layers", FirstOf(config, {"num_nextn_predict_layers"})},
                            {"parameters_dtype", FirstOf(config, {"dtype", "torch_dtype"})},
                            {"experts", nullptr}};
  const ordered_json experts = FirstOf(config, {"num_experts", "n_routed_experts", "num_local_experts"});
  if (experts.is_number_integer()) {
    described["experts"] = {{"count", experts},
                            {"active", FirstOf(config, {"num_experts_per_tok"})},
                            {"ffn_hidden_size", FirstOf(config, {"moe_intermediate_size"})},
                            {"shared", FirstOf(config, {"n_shared_experts"})}};
  }
  return described;
}

}  // namespace slipway::engine
