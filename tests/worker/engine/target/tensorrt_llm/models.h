// Small models as a target sees them.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "worker/engine/target/rank_layout.h"

namespace slipway::engine::test {

inline RankRequest Ranks(std::int64_t tensor, std::int64_t pipeline = 1, std::int64_t expert = 1,
                         std::string version = {}) {
  return {tensor, pipeline, expert, std::move(version)};
}

// A Llama of the sizes that are easily followed by hand: 4 heads of 16, 2 of keys and values.
inline HuggingFaceModel Llama(std::int64_t layers = 4, std::int64_t vocabulary = 256,
                              std::int64_t key_value_heads = 2) {
  constexpr std::int64_t kHidden = 64;
  constexpr std::int64_t kFfn = 128;
  HuggingFaceModel model{.architecture = "LlamaForCausalLM",
                         .config = {{"architectures", {"LlamaForCausalLM"}},
                                    {"hidden_size", kHidden},
                                    {"num_hidden_layers", layers},
                                    {"num_attention_heads", 4},
                                    {"num_key_value_heads", key_value_heads},
                                    {"head_dim", 16},
                                    {"intermediate_size", kFfn},
                                    {"vocab_size", vocabulary},
                                    {"max_position_embeddings", 2048},
                                    {"hidden_act", "silu"},
                                    {"rms_norm_eps", 1e-5},
                                    {"rope_theta", 10000.0},
                                    {"tie_word_embeddings", false}},
                         .tensors = {}};
  const auto add = [&model](const std::string& name, const Shape& shape) {
    model.tensors[name + ".weight"] = {shape, DType::kBF16};
  };
  add("model.embed_tokens", {vocabulary, kHidden});
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    add(prefix + "input_layernorm", {kHidden});
    add(prefix + "self_attn.q_proj", {kHidden, kHidden});
    add(prefix + "self_attn.k_proj", {16 * key_value_heads, kHidden});
    add(prefix + "self_attn.v_proj", {16 * key_value_heads, kHidden});
    add(prefix + "self_attn.o_proj", {kHidden, kHidden});
    add(prefix + "post_attention_layernorm", {kHidden});
    add(prefix + "mlp.gate_proj", {kFfn, kHidden});
    add(prefix + "mlp.up_proj", {kFfn, kHidden});
    add(prefix + "mlp.down_proj", {kHidden, kFfn});
  }
  add("model.norm", {kHidden});
  add("lm_head", {vocabulary, kHidden});
  return model;
}

// Of the same sizes, with 4 experts of which each token takes 2.
inline HuggingFaceModel Mixtral(std::int64_t layers = 2) {
  HuggingFaceModel model = Llama(layers);
  model.architecture = "MixtralForCausalLM";
  model.config["num_local_experts"] = 4;
  model.config["num_experts_per_tok"] = 2;
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    for (const char* name : {"gate_proj", "up_proj", "down_proj"}) {
      model.tensors.erase(fmt::format("{}mlp.{}.weight", prefix, name));
    }
    model.tensors[prefix + "block_sparse_moe.gate.weight"] = {{4, 64}, DType::kBF16};
    for (int expert = 0; expert < 4; ++expert) {
      const std::string of_expert = fmt::format("{}block_sparse_moe.experts.{}.", prefix, expert);
      model.tensors[of_expert + "w1.weight"] = {{128, 64}, DType::kBF16};
      model.tensors[of_expert + "w3.weight"] = {{128, 64}, DType::kBF16};
      model.tensors[of_expert + "w2.weight"] = {{64, 128}, DType::kBF16};
    }
  }
  return model;
}

inline const RankTensor* Find(const RankFile& file, const std::string& name) {
  for (const RankTensor& tensor : file.tensors) {
    if (tensor.name == name) {
      return &tensor;
    }
  }
  return nullptr;
}

// A DeepSeek-V2 of two layers, the first of them dense: 4 heads of 6 plain and 4 rotated dimensions, values of 8; with
// `query_rank` 0 its queries are not compressed.
inline HuggingFaceModel DeepseekV2(std::int64_t query_rank = 14) {
  constexpr std::int64_t kHidden = 64, kLatent = 10, kExpertFfn = 16;
  HuggingFaceModel model = Llama(2);
  model.architecture = "DeepseekV2ForCausalLM";
  model.config.update({{"num_key_value_heads", 4},
                       {"head_dim", 4},
                       {"kv_lora_rank", kLatent},
                       {"qk_nope_head_dim", 6},
                       {"qk_rope_head_dim", 4},
                       {"v_head_dim", 8},
                       {"first_k_dense_replace", 1},
                       {"n_routed_experts", 4},
                       {"n_shared_experts", 2},
                       {"num_experts_per_tok", 2},
                       {"moe_intermediate_size", kExpertFfn},
                       {"topk_method", "greedy"},
                       {"norm_topk_prob", false}});
  model.config["q_lora_rank"] = query_rank > 0 ? nlohmann::ordered_json(query_rank) : nlohmann::ordered_json(nullptr);
  const auto add = [&model](const std::string& name, const Shape& shape) {
    model.tensors[name + ".weight"] = {shape, DType::kBF16};
  };
  for (std::int64_t layer = 0; layer < 2; ++layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    for (const char* name : {"q_proj", "k_proj", "v_proj"}) {
      model.tensors.erase(fmt::format("{}self_attn.{}.weight", prefix, name));
    }
    if (query_rank > 0) {
      add(prefix + "self_attn.q_a_proj", {query_rank, kHidden});
      add(prefix + "self_attn.q_a_layernorm", {query_rank});
    }
    add(prefix + (query_rank > 0 ? "self_attn.q_b_proj" : "self_attn.q_proj"),
        {40, query_rank > 0 ? query_rank : kHidden});
    add(prefix + "self_attn.kv_a_proj_with_mqa", {kLatent + 4, kHidden});
    add(prefix + "self_attn.kv_a_layernorm", {kLatent});
    add(prefix + "self_attn.kv_b_proj", {56, kLatent});
    add(prefix + "self_attn.o_proj", {kHidden, 32});
  }
  const std::string experts = "model.layers.1.mlp.";
  for (const char* name : {"gate_proj", "up_proj", "down_proj"}) {
    model.tensors.erase(fmt::format("{}{}.weight", experts, name));
  }
  add(experts + "gate", {4, kHidden});
  const auto add_mlp = [&add](const std::string& prefix, std::int64_t ffn) {
    add(prefix + "gate_proj", {ffn, kHidden});
    add(prefix + "up_proj", {ffn, kHidden});
    add(prefix + "down_proj", {kHidden, ffn});
  };
  for (int expert = 0; expert < 4; ++expert) {
    add_mlp(fmt::format("{}experts.{}.", experts, expert), kExpertFfn);
  }
  add_mlp(experts + "shared_experts.", 2 * kExpertFfn);
  return model;
}

}  // namespace slipway::engine::test
