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

}  // namespace slipway::engine::test
