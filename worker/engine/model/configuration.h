// A model's sizes and switches in Megatron's words, whichever way they were learnt.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "worker/engine/dtype.h"

namespace slipway::engine {

// What mixes positions in a layer, and what follows it.
enum class Mixer : std::uint8_t { kNone, kAttention, kLinearAttention, kMamba };
enum class Feed : std::uint8_t { kNone, kDense, kExperts };

struct LayerKind {
  Mixer mixer = Mixer::kAttention;
  Feed feed = Feed::kDense;
  bool operator==(const LayerKind&) const = default;
};

// Mixture of experts (num_experts, moe_*).
struct ExpertsConfiguration {
  std::optional<std::int64_t> count;            // num_experts
  std::optional<std::int64_t> active;           // moe_router_topk
  std::optional<std::int64_t> ffn_hidden_size;  // moe_ffn_hidden_size
  std::optional<std::int64_t> shared_ffn_hidden_size;
  std::optional<std::int64_t> latent_size;
  std::optional<std::int64_t> groups;         // moe_router_num_groups
  std::optional<std::int64_t> active_groups;  // moe_router_group_topk
  std::optional<bool> pre_softmax;
  std::optional<std::string> score_function;  // softmax, sigmoid
  std::optional<double> scaling;              // moe_router_topk_scaling_factor
  std::optional<double> auxiliary_loss;
};

// Multi-latent attention (multi_latent_attention).
struct LatentAttentionConfiguration {
  std::optional<std::int64_t> query_rank;      // q_lora_rank; absent: queries are not compressed
  std::optional<std::int64_t> key_value_rank;  // kv_lora_rank
  std::optional<std::int64_t> nope_dimension;  // qk_head_dim
  std::optional<std::int64_t> rope_dimension;  // qk_pos_emb_head_dim
  std::optional<std::int64_t> value_dimension;
};

// The small attention that picks, for latent attention, the tokens to attend to (dsa_indexer_*).
struct IndexerConfiguration {
  std::optional<std::int64_t> heads;
  std::optional<std::int64_t> head_dimension;
  std::optional<std::int64_t> tokens;  // dsa_indexer_topk
  std::optional<bool> interleaved;     // dsa_indexer_rope_interleaved: rotary positions on neighbouring pairs
};

// YaRN scaling of rotary positions.
struct YarnConfiguration {
  std::optional<double> factor;
  std::optional<double> original_positions;
  std::optional<double> beta_fast;
  std::optional<double> beta_slow;
  std::optional<double> mscale;
  std::optional<double> mscale_all_dim;
  std::optional<bool> truncate;
};

// Gated delta net (linear_*).
struct LinearAttentionConfiguration {
  std::optional<std::int64_t> key_heads;
  std::optional<std::int64_t> value_heads;
  std::optional<std::int64_t> key_dimension;
  std::optional<std::int64_t> value_dimension;
  std::optional<std::int64_t> kernel;
};

// State space layers (mamba_*).
struct MambaConfiguration {
  std::optional<std::int64_t> heads;
  std::optional<std::int64_t> head_dimension;
  std::optional<std::int64_t> groups;
  std::optional<std::int64_t> state_dimension;
  std::optional<std::int64_t> kernel;
  std::optional<std::int64_t> chunk;
};

// The tower that makes tokens of images (vision_config). Layers are stated for every model that has one.
struct VisionConfiguration {
  std::optional<std::int64_t> layers;   // depth
  std::optional<std::int64_t> mergers;  // beside the last one: of layers whose output goes into the text's (DeepStack)
  std::optional<std::int64_t> hidden_size;
  std::optional<std::int64_t> ffn_hidden_size;
  std::optional<std::int64_t> heads;
  std::optional<std::int64_t> channels;    // of the image
  std::optional<std::int64_t> patch_size;  // pixels along each side
  std::optional<std::int64_t> frames;      // temporal_patch_size
  std::optional<std::int64_t> merge_size;  // patches along each side that become one token
  std::optional<std::int64_t> positions;
  std::optional<std::int64_t> output_size;  // of a token
};

struct ModelConfiguration {
  std::int64_t layers = 0;  // num_layers
  std::int64_t hidden_size = 0;
  std::int64_t ffn_hidden_size = 0;
  std::int64_t attention_heads = 0;         // num_attention_heads
  std::int64_t query_groups = 0;            // num_query_groups: KV heads
  std::int64_t head_dimension = 0;          // kv_channels
  std::int64_t vocabulary_size = 0;         // without padding
  std::int64_t padded_vocabulary_size = 0;  // rows of the embedding
  std::int64_t maximum_positions = 0;       // max_position_embeddings
  double norm_epsilon = 1e-5;
  bool zero_centered_gamma = false;  // apply_layernorm_1p: norms stored minus 1
  bool tied_embeddings = false;
  bool gated = true;                // gated MLP (swiglu)
  std::string activation = "silu";  // Hugging Face's name
  std::string normalization = "RMSNorm";
  bool qkv_bias = false;
  bool linear_bias = false;
  bool qk_norm = false;       // norms of queries and keys (never with latent attention, whose norms are its own)
  bool full_qk_norm = false;  // over all heads at once
  bool latent_attention = false;
  bool parallel_attention = false;  // beside the MLP, not before it
  bool attention_gate = false;      // attention_output_gate: each query head has a gate
  double rotary_base = 10000.0;
  double rotary_percent = 1.0;
  std::string position_embedding = "rope";     // rope, yarn, learned_absolute, none
  std::optional<double> llama3_rope_factor;    // use_rope_scaling
  std::optional<double> linear_rope_factor;    // seq_len_interpolation_factor
  std::optional<std::int64_t> sliding_window;  // Hugging Face's count: left + 1
  std::vector<std::int64_t> rotary_layers;     // 1 where a layer has rotary positions; empty: as all others say
  std::optional<double> initializer_range;
  DType parameters_dtype = DType::kBF16;  // params_dtype

  std::vector<LayerKind> layer_kinds;  // one a layer
  // Of the layers inside multi-token-prediction layers, one after the other; prediction_depth of them in each.
  std::vector<LayerKind> prediction_kinds;
  std::int64_t prediction_depth = 1;
  ExpertsConfiguration experts;
  LatentAttentionConfiguration latent;
  IndexerConfiguration indexer;
  YarnConfiguration yarn;
  LinearAttentionConfiguration linear_attention;
  MambaConfiguration mamba;
  VisionConfiguration vision;
  // Which weights the checkpoint has, as PatternOf (architecture.h) spells them: switches that nothing states.
  std::set<std::string, std::less<>> patterns;

  // Settings that only some families have, by the argument's name; each as a phrase ("qk_l2_norm is true").
  std::map<std::string, std::string, std::less<>> special;

  [[nodiscard]] bool Has(std::string_view pattern) const { return patterns.contains(pattern); }
  [[nodiscard]] bool Says(std::string_view argument) const { return special.contains(argument); }
};

}  // namespace slipway::engine
