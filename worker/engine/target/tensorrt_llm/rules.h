// Rules that several families share, and the words in which tables are written.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include "worker/engine/target/tensorrt_llm/family.h"

namespace slipway::engine::tensorrt_llm {

template <std::size_t... sizes>
consteval auto Join(const std::array<ModuleRule, sizes>&... groups) {
  std::array<ModuleRule, (sizes + ...)> all{};
  std::size_t next = 0;
  const auto append = [&](const auto& group) {
    for (const ModuleRule& rule : group) {
      all[next++] = rule;
    }
  };
  (append(groups), ...);
  return all;
}

inline constexpr Extent kOne = [](const EngineModel&) { return std::int64_t{1}; };
inline constexpr Extent kHidden = [](const EngineModel& m) { return m.hidden; };
inline constexpr Extent kQueryRows = [](const EngineModel& m) { return m.heads * m.head_size; };
inline constexpr Extent kHeadSize = [](const EngineModel& m) { return m.head_size; };
inline constexpr Extent kFfn = [](const EngineModel& m) { return m.ffn; };
inline constexpr Extent kExperts = [](const EngineModel& m) { return m.experts; };
inline constexpr Extent kExpertFfn = [](const EngineModel& m) { return m.expert_ffn; };
inline constexpr Extent kSharedExpertFfn = [](const EngineModel& m) { return m.shared_expert_ffn; };

consteval ModuleRule Norm(std::string_view name, std::string_view source, Bias bias = Bias::kNone,
                          Condition when = nullptr) {
  return {.name = name, .sources = {Source{source}}, .rows = kHidden, .bias = bias, .is_norm = true, .when = when};
}

consteval ModuleRule HeadNorm(std::string_view name, std::string_view source) {
  return {.name = name, .sources = {Source{source}}, .rows = kHeadSize, .is_norm = true};
}

consteval ModuleRule Linear(std::string_view name, Split split, std::string_view source, Extent rows, Extent columns,
                            Bias bias = Bias::kNone) {
  return {.name = name, .split = split, .sources = {Source{source}}, .rows = rows, .columns = columns, .bias = bias};
}

consteval ModuleRule Heads(HeadOrder order, std::array<Source, 3> sources, Bias bias) {
  return {.name = "attention.qkv",
          .split = Split::kHeads,
          .sources = sources,
          .columns = kHidden,
          .bias = bias,
          .order = order};
}

// One module with all heads.
consteval ModuleRule Heads(HeadOrder order, std::string_view source, Bias bias) {
  return Heads(order, {Source{source}, Source{source}, Source{source}}, bias);
}

// The part that is multiplied above the part that goes through the activation: the order of every matrix that holds
// both.
consteval ModuleRule UpAboveGate(std::string_view name, Split split, Source up, Source gate, Extent ffn) {
  return {.name = name, .split = split, .sources = {up, gate}, .rows = ffn, .columns = kHidden};
}

consteval ModuleRule Router(std::string_view source) {
  return {.name = "mlp.router", .sources = {Source{source}}, .rows = kExperts, .columns = kHidden, .is_router = true};
}

inline constexpr ModuleRule kSeparateHeads =
    Heads(HeadOrder::kSeparate, {Source{"self_attn.q_proj"}, Source{"self_attn.k_proj"}, Source{"self_attn.v_proj"}},
          Bias::kAttention);

// Attention, and the norms before it and the MLP, of the families after Llama.
inline constexpr auto kAttentionRules = std::to_array<ModuleRule>({
    Norm("input_layernorm", "input_layernorm"),
    kSeparateHeads,
    Linear("attention.dense", Split::kColumns, "self_attn.o_proj", kHidden, kQueryRows, Bias::kAttention),
    Norm("post_layernorm", "post_attention_layernorm"),
});

// Of families where only queries, keys and values may have biases.
inline constexpr auto kPlainOutputRules = std::to_array<ModuleRule>({
    Norm("input_layernorm", "input_layernorm"),
    kSeparateHeads,
    Linear("attention.dense", Split::kColumns, "self_attn.o_proj", kHidden, kQueryRows),
    Norm("post_layernorm", "post_attention_layernorm"),
});

inline constexpr auto kHeadNormRules = std::to_array<ModuleRule>({
    HeadNorm("attention.q_layernorm", "self_attn.q_norm"),
    HeadNorm("attention.k_layernorm", "self_attn.k_norm"),
});

// In a dense layer `fc` is what goes through the activation, `gate` what it is multiplied with.
inline constexpr auto kGatedMlpRules = std::to_array<ModuleRule>({
    Linear("mlp.fc", Split::kRows, "mlp.gate_proj", kFfn, kHidden, Bias::kMlp),
    Linear("mlp.gate", Split::kRows, "mlp.up_proj", kFfn, kHidden, Bias::kMlp),
    Linear("mlp.proj", Split::kColumns, "mlp.down_proj", kHidden, kFfn, Bias::kMlp),
});

inline constexpr auto kExpertRules = std::to_array<ModuleRule>({
    Router("mlp.gate"),
    UpAboveGate("mlp.fc", Split::kExpertRows, Source{"mlp.experts.{expert}.up_proj"},
                Source{"mlp.experts.{expert}.gate_proj"}, kExpertFfn),
    Linear("mlp.proj", Split::kExpertColumns, "mlp.experts.{expert}.down_proj", kHidden, kExpertFfn),
});

}  // namespace slipway::engine::tensorrt_llm
