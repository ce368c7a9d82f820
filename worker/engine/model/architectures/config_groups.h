// Groups of config.json's fields that decoder families share.
#pragma once

#include <array>
#include <cstddef>
#include <optional>

#include <nlohmann/json.hpp>

#include "worker/engine/model/architecture.h"
#include "worker/engine/model/model.h"

namespace slipway::engine {

template <std::size_t... sizes>
constexpr auto ConcatenateFields(const std::array<ConfigField, sizes>&... groups) {
  std::array<ConfigField, (sizes + ...)> all{};
  std::size_t next = 0;
  const auto append = [&](const auto& group) {
    for (const ConfigField& field : group) {
      all[next++] = field;
    }
  };
  (append(groups), ...);
  return all;
}

// The value of a member of the configuration; an absent optional leaves the field out.
template <auto member>
std::optional<nlohmann::json> Member(const ModelConfiguration& configuration) {
  const auto& value = configuration.*member;
  if constexpr (requires { value.has_value(); }) {
    return value ? std::optional<nlohmann::json>(*value) : std::nullopt;
  } else {
    return nlohmann::json(value);
  }
}

// The same value for every model of the family.
template <auto value>
std::optional<nlohmann::json> Always(const ModelConfiguration&) {
  return nlohmann::json(value);
}

std::optional<nlohmann::json> NoDropout(const ModelConfiguration& configuration);
std::optional<nlohmann::json> RopeScaling(const ModelConfiguration& configuration);
std::optional<nlohmann::json> SlidingWindow(const ModelConfiguration& configuration);
std::optional<nlohmann::json> FullAttentionLayers(const ModelConfiguration& configuration);

inline constexpr std::array kDecoderFields = std::to_array<ConfigField>({
    {"attention_dropout", NoDropout, true},
    {"head_dim", Member<&ModelConfiguration::head_dimension>},
    {"hidden_act", Member<&ModelConfiguration::activation>},
    {"hidden_size", Member<&ModelConfiguration::hidden_size>},
    {"initializer_range", Member<&ModelConfiguration::initializer_range>, true},
    {"intermediate_size", Member<&ModelConfiguration::ffn_hidden_size>},
    {"max_position_embeddings", Member<&ModelConfiguration::maximum_positions>},
    {"num_attention_heads", Member<&ModelConfiguration::attention_heads>},
    {"num_hidden_layers", Member<&ModelConfiguration::layers>},
    {"num_key_value_heads", Member<&ModelConfiguration::query_groups>},
    {"rms_norm_eps", Member<&ModelConfiguration::norm_epsilon>},
    {"rope_scaling", RopeScaling},
    {"rope_theta", Member<&ModelConfiguration::rotary_base>},
    {"tie_word_embeddings", Member<&ModelConfiguration::tied_embeddings>},
    {"use_cache", Always<true>, true},
    {"vocab_size", Member<&ModelConfiguration::vocabulary_size>},
});

// Qwen's configurations have a window that is switched off.
inline constexpr std::array kNoWindowFields = std::to_array<ConfigField>({
    {"layer_types", FullAttentionLayers, true},
    {"sliding_window", SlidingWindow, true},
    {"use_sliding_window", Always<false>},
});

}  // namespace slipway::engine
