// Fields of config.json of families with gated delta nets.
#pragma once

#include <array>

#include "worker/engine/model/architectures/config_groups.h"

namespace slipway::engine {

// Gated delta nets and gated attention as Qwen3-Next and Qwen3.5 have them, at most one prediction layer.
bool IsQwenHybrid(const ModelConfiguration& configuration);
std::optional<nlohmann::json> MixerTypes(const ModelConfiguration& configuration);
// The number of prediction layers, where there are any.
std::optional<nlohmann::json> PredictionLayers(const ModelConfiguration& configuration);

template <auto member>
std::optional<nlohmann::json> LinearAttention(const ModelConfiguration& configuration) {
  return Nested<&ModelConfiguration::linear_attention, member>(configuration);
}

inline constexpr std::array kQwenHybridFields = std::to_array<ConfigField>({
    {"attention_bias", Always<false>},
    {"attention_dropout", NoDropout, true},
    {"head_dim", Member<&ModelConfiguration::head_dimension>},
    {"hidden_act", Member<&ModelConfiguration::activation>},
    {"hidden_size", Member<&ModelConfiguration::hidden_size>},
    {"initializer_range", Member<&ModelConfiguration::initializer_range>, true},
    {"layer_types", MixerTypes},
    {"linear_conv_kernel_dim", LinearAttention<&LinearAttentionConfiguration::kernel>},
    {"linear_key_head_dim", LinearAttention<&LinearAttentionConfiguration::key_dimension>},
    {"linear_num_key_heads", LinearAttention<&LinearAttentionConfiguration::key_heads>},
    {"linear_num_value_heads", LinearAttention<&LinearAttentionConfiguration::value_heads>},
    {"linear_value_head_dim", LinearAttention<&LinearAttentionConfiguration::value_dimension>},
    {"max_position_embeddings", Member<&ModelConfiguration::maximum_positions>},
    {"num_attention_heads", Member<&ModelConfiguration::attention_heads>},
    {"num_hidden_layers", Member<&ModelConfiguration::layers>},
    {"num_key_value_heads", Member<&ModelConfiguration::query_groups>},
    {"partial_rotary_factor", Member<&ModelConfiguration::rotary_percent>},
    {"rms_norm_eps", Member<&ModelConfiguration::norm_epsilon>},
    {"rope_parameters", PartialRope},
    {"rope_theta", Member<&ModelConfiguration::rotary_base>},
    {"tie_word_embeddings", Member<&ModelConfiguration::tied_embeddings>},
    {"use_cache", Always<true>, true},
    {"vocab_size", Member<&ModelConfiguration::vocabulary_size>},
});

}  // namespace slipway::engine
