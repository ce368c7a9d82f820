// Checkpoints of decoder models as Megatron lays them out, in memory and without any weight: for tests of planning.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/plan/export_plan.h"

namespace slipway::engine::test {

struct TinyModel {
  std::int64_t layers = 2;
  std::int64_t hidden = 12;
  std::int64_t ffn = 10;
  std::int64_t heads = 4;
  std::int64_t groups = 2;
  std::int64_t dimension = 3;
  std::int64_t vocabulary = 13;
  std::int64_t padded_vocabulary = 16;
  bool tied = false;
  bool qkv_bias = false;
  bool qk_norm = false;
  // Layout.
  bool stacked = true;      // [L, ...] under one name, else one tensor a layer
  bool split_gate = false;  // "..._w" and "..._v" (per-layer names only)
  bool fused_norms = true;  // Transformer Engine's names of the norms
  DType dtype = DType::kBF16;
};

// What Megatron-LM's argument parser leaves behind for such a model.
inline nlohmann::json ArgumentsOf(const TinyModel& m) {
  return {{"num_layers", m.layers},
          {"hidden_size", m.hidden},
          {"ffn_hidden_size", m.ffn},
          {"num_attention_heads", m.heads},
          {"group_query_attention", m.groups != m.heads},
          {"num_query_groups", m.groups == m.heads ? 1 : m.groups},
          {"kv_channels", m.dimension},
          {"max_position_embeddings", 2048},
          {"position_embedding_type", "rope"},
          {"rotary_base", 500000},
          {"rotary_percent", 1.0},
          {"rotary_interleaved", false},
          {"use_rope_scaling", false},
          {"rotary_seq_len_interpolation_factor", nullptr},
          {"add_bias_linear", false},
          {"add_qkv_bias", m.qkv_bias},
          {"swiglu", true},
          {"normalization", "RMSNorm"},
          {"layernorm_epsilon", 1e-5},
          {"qk_layernorm", m.qk_norm},
          {"untie_embeddings_and_output_weights", !m.tied},
          {"vocab_size", m.vocabulary},
          {"window_size", nullptr},
          {"num_experts", nullptr},
          {"softmax_type", "vanilla"},
          {"init_method_std", 0.02},
          {"params_dtype", "torch.bfloat16"},
          {"bf16", true},
          {"fp16", false}};
}

inline StoredTensor Stored(std::string name, DType dtype, const Shape& shape) {
  StoredTensor tensor{.name = std::move(name), .dtype = dtype, .shape = shape, .pieces = {}};
  Piece piece;
  piece.offsets = Shape(shape.size(), 0);
  piece.sizes = shape;
  tensor.pieces.push_back(std::move(piece));
  return tensor;
}

inline std::vector<StoredTensor> LayerTensors(const TinyModel& m, const std::string& prefix) {
  const std::int64_t rows = (m.heads + 2 * m.groups) * m.dimension;
  std::vector<StoredTensor> tensors;
  const auto add = [&](const std::string& suffix, const Shape& shape) {
    tensors.push_back(Stored(prefix + suffix, m.dtype, shape));
  };
  add(m.fused_norms ? "self_attention.linear_qkv.layer_norm_weight" : "input_layernorm.weight", {m.hidden});
  add(m.fused_norms ? "mlp.linear_fc1.layer_norm_weight" : "pre_mlp_layernorm.weight", {m.hidden});
  add("self_attention.linear_qkv.weight", {rows, m.hidden});
  if (m.qkv_bias) {
    add("self_attention.linear_qkv.bias", {rows});
  }
  if (m.qk_norm) {
    add("self_attention.q_layernorm.weight", {m.dimension});
    add("self_attention.k_layernorm.weight", {m.dimension});
  }
  add("self_attention.linear_proj.weight", {m.hidden, m.heads * m.dimension});
  if (m.split_gate) {
    add("mlp.linear_fc1.weight_w", {m.ffn, m.hidden});
    add("mlp.linear_fc1.weight_v", {m.ffn, m.hidden});
  } else {
    add("mlp.linear_fc1.weight", {2 * m.ffn, m.hidden});
  }
  add("mlp.linear_fc2.weight", {m.hidden, m.ffn});
  return tensors;
}

inline std::shared_ptr<Checkpoint> MakeCheckpoint(const TinyModel& m) {
  auto checkpoint = std::make_shared<Checkpoint>();
  checkpoint->path = "checkpoint";
  checkpoint->iteration = 100;
  checkpoint->arguments = std::make_shared<const nlohmann::json>(ArgumentsOf(m));
  checkpoint->files.push_back({.name = "__0_0.distcp", .identity = {}, .file = nullptr});
  std::vector<StoredTensor>& tensors = checkpoint->tensors;
  tensors.push_back(Stored("embedding.word_embeddings.weight", m.dtype, {m.padded_vocabulary, m.hidden}));
  tensors.push_back(Stored("decoder.final_layernorm.weight", m.dtype, {m.hidden}));
  if (!m.tied) {
    tensors.push_back(Stored("output_layer.weight", m.dtype, {m.padded_vocabulary, m.hidden}));
  }
  if (m.stacked) {
    for (const StoredTensor& layer : LayerTensors(m, "decoder.layers.")) {
      Shape shape = {m.layers};
      shape.insert(shape.end(), layer.shape.begin(), layer.shape.end());
      tensors.push_back(Stored(layer.name, layer.dtype, shape));
    }
  } else {
    for (std::int64_t i = 0; i < m.layers; ++i) {
      for (StoredTensor& tensor : LayerTensors(m, "decoder.layers." + std::to_string(i) + ".")) {
        tensors.push_back(std::move(tensor));
      }
    }
  }
  std::ranges::sort(tensors, {}, &StoredTensor::name);
  return checkpoint;
}

// Options that differ from the defaults in one thing.
template <auto member, typename Value>
ExportOptions OptionsWith(Value value) {
  ExportOptions options;
  options.checkpoint = "checkpoint";
  options.*member = std::move(value);
  return options;
}

// The same checkpoint with other arguments.
inline void SetArgument(Checkpoint& checkpoint, const std::string& name, nlohmann::json value) {
  nlohmann::json arguments = *checkpoint.arguments;
  arguments[name] = std::move(value);
  checkpoint.arguments = std::make_shared<const nlohmann::json>(std::move(arguments));
}

inline void RemoveTensor(Checkpoint& checkpoint, std::string_view name) {
  std::erase_if(checkpoint.tensors, [&](const StoredTensor& tensor) { return tensor.name == name; });
}

inline void AddTensor(Checkpoint& checkpoint, StoredTensor tensor) {
  checkpoint.tensors.push_back(std::move(tensor));
  std::ranges::sort(checkpoint.tensors, {}, &StoredTensor::name);
}

}  // namespace slipway::engine::test
