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

// The same of a member's member: Nested<&ModelConfiguration::experts, &ExpertsConfiguration::active>.
template <auto outer, auto inner>
std::optional<nlohmann::json> Nested(const ModelConfiguration& configuration) {
  const auto& value = configuration.*outer.*inner;
  return value ? std::optional<nlohmann::json>(*value) : std::nullopt;
}

template <auto member>
std::optional<nlohmann::json> Experts(const ModelConfiguration& configuration) {
  return Nested<&ModelConfiguration::experts, member>(configuration);
}

// The same value for every model of the family.
template <auto value>
std::optional<nlohmann::json> Always(const ModelConfiguration&) {
  return nlohmann::json(value);
}

// The same for a number that is no integer. (Some compilers take no floating-point template arguments.)
template <int Numerator, int Denominator>
std::optional<nlohmann::json> AlwaysRatio(const ModelConfiguration&) {
  return nlohmann::json(static_cast<double>(Numerator) / Denominator);
}

// Every layer has attention and a feed.
bool HasOnlyAttention(const ModelConfiguration& configuration);
// RMSNorm and rotary positions over whole heads of ordinary attention.
bool IsRotaryDecoder(const ModelConfiguration& configuration);
// LayerNorm and ungated GELU, dense.
bool IsLayerNormDecoder(const ModelConfiguration& configuration);
// Of the first kind with gated SiLU and no experts.
bool IsPlainDecoder(const ModelConfiguration& configuration);
// Experts instead, in some layers or all.
bool IsExpertsDecoder(const ModelConfiguration& configuration);

// The text of a model that sees, of the first kind with gated SiLU, beside a tower all of whose sizes are known.
bool IsSeeingDecoder(const ModelConfiguration& configuration);

// Experts are chosen by softmax among all of them, and their weights are not multiplied by a factor.
bool RoutesBySoftmax(const ModelConfiguration& configuration);

std::optional<nlohmann::json> AuxiliaryLoss(const ModelConfiguration& configuration);
// Whether weights of the chosen experts are normalized: yes, where softmax comes after the choice.
std::optional<nlohmann::json> NormalizedWeights(const ModelConfiguration& configuration);
// Numbers of the layers that have no experts.
std::optional<nlohmann::json> DenseLayers(const ModelConfiguration& configuration);
std::optional<nlohmann::json> ExpertFfn(const ModelConfiguration& configuration);
std::optional<nlohmann::json> NoDropout(const ModelConfiguration& configuration);
// rope_parameters, where only a part of each head is rotated.
std::optional<nlohmann::json> PartialRope(const ModelConfiguration& configuration);
std::optional<nlohmann::json> RopeScaling(const ModelConfiguration& configuration);
std::optional<nlohmann::json> SlidingWindow(const ModelConfiguration& configuration);
std::optional<nlohmann::json> FullAttentionLayers(const ModelConfiguration& configuration);

inline constexpr std::array kDecoderFieldsWithoutFfn = std::to_array<ConfigField>({
    {"attention_dropout", NoDropout, true},
    {"head_dim", Member<&ModelConfiguration::head_dimension>},
    {"hidden_act", Member<&ModelConfiguration::activation>},
    {"hidden_size", Member<&ModelConfiguration::hidden_size>},
    {"initializer_range", Member<&ModelConfiguration::initializer_range>, true},
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

inline constexpr auto kDecoderFields = ConcatenateFields(
    kDecoderFieldsWithoutFfn,
    std::to_array<ConfigField>({{"intermediate_size", Member<&ModelConfiguration::ffn_hidden_size>}}));

// What Qwen's families with experts have besides.
inline constexpr std::array kQwenExpertsFields = std::to_array<ConfigField>({
    {"decoder_sparse_step", Always<1>, true},
    {"mlp_only_layers", DenseLayers},
    {"moe_intermediate_size", ExpertFfn},
    {"norm_topk_prob", NormalizedWeights, true},
    {"num_experts", Experts<&ExpertsConfiguration::count>},
    {"num_experts_per_tok", Experts<&ExpertsConfiguration::active>},
    {"output_router_logits", Always<false>, true},
    {"router_aux_loss_coef", AuxiliaryLoss, true},
});

// Qwen's configurations have a window that is switched off.
inline constexpr std::array kNoWindowFields = std::to_array<ConfigField>({
    {"layer_types", FullAttentionLayers, true},
    {"sliding_window", SlidingWindow, true},
    {"use_sliding_window", Always<false>},
});

}  // namespace slipway::engine
