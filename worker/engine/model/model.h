// The model: its configuration, whichever way it was learnt (training arguments, --hf-config, tensor shapes), and the
// family that it belongs to.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/canonical.h"
#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/model/architecture.h"

namespace slipway::engine {

// Sizes and switches in Megatron's words. Absent: neither stated nor derivable.
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
  bool qk_norm = false;
  double rotary_base = 10000.0;
  double rotary_percent = 1.0;
  bool rotary_interleaved = false;
  std::optional<double> llama3_rope_factor;    // use_rope_scaling
  std::optional<double> linear_rope_factor;    // seq_len_interpolation_factor
  std::optional<std::int64_t> sliding_window;  // Hugging Face's count: left + 1
  std::optional<double> initializer_range;
  DType parameters_dtype = DType::kBF16;  // params_dtype
};

struct Model {
  const Architecture* architecture = nullptr;  // static storage
  ModelConfiguration configuration;
  // The user's config.json from --hf-config, or null.
  nlohmann::json hf_config;
  std::vector<std::string> notes;  // what was assumed, one sentence each; the plan shows them as warnings
};

struct ModelOptions {
  std::string architecture;  // a Hugging Face class name, or empty: infer
  std::string hf_config;     // a directory, or empty
};

// Learns the model. Errors: ARCHITECTURE_UNSUPPORTED (naming the nearest and what does not match),
// CONFIGURATION_INVALID, TENSOR_SHAPE_MISMATCH (shapes win over arguments only where the arguments are silent; a
// contradiction is an error).
absl::StatusOr<Model> LearnModel(const Checkpoint& checkpoint, const std::map<std::string, CanonicalTensor>& tensors,
                                 const ModelOptions& options);

}  // namespace slipway::engine
