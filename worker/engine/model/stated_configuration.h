// What a source of knowledge (training arguments, a config.json) says about a model; silent where it says nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "worker/engine/dtype.h"
#include "worker/engine/model/configuration.h"

namespace slipway::engine {

// Members as in ModelConfiguration.
struct StatedConfiguration {
  std::optional<std::int64_t> layers;
  std::optional<std::int64_t> hidden_size;
  std::optional<std::int64_t> ffn_hidden_size;
  std::optional<std::int64_t> attention_heads;
  std::optional<std::int64_t> query_groups;
  std::optional<std::int64_t> head_dimension;
  std::optional<std::int64_t> vocabulary_size;
  std::optional<std::int64_t> maximum_positions;
  std::optional<double> norm_epsilon;
  std::optional<bool> zero_centered_gamma;
  std::optional<bool> tied_embeddings;
  std::optional<bool> gated;
  std::optional<std::string> activation;
  std::optional<std::string> normalization;
  std::optional<bool> qkv_bias;
  std::optional<bool> linear_bias;
  std::optional<bool> qk_norm;
  std::optional<bool> latent_attention;
  std::optional<bool> parallel_attention;
  std::optional<bool> attention_gate;
  std::optional<double> rotary_base;
  std::optional<double> rotary_percent;
  std::optional<std::string> position_embedding;
  // Rotary scaling and the sliding window are three-valued: silent, "none", or a value; 0 stands for "none".
  std::optional<double> llama3_rope_factor;
  std::optional<double> linear_rope_factor;
  std::optional<std::int64_t> sliding_window;
  std::optional<double> initializer_range;
  std::optional<DType> parameters_dtype;
  std::vector<std::int64_t> rotary_layers;
  std::optional<std::vector<LayerKind>> layer_kinds;
  bool hybrid = false;                            // a pattern gives each layer a mixer or a feed, not both
  std::optional<std::int64_t> prediction_layers;  // that are stored: mtp_num_layers
  ExpertsConfiguration experts;
  LatentAttentionConfiguration latent;
  IndexerConfiguration indexer;
  YarnConfiguration yarn;
  LinearAttentionConfiguration linear_attention;
  MambaConfiguration mamba;
  VisionConfiguration vision;
  // Facts that most families do not know, each as a phrase that begins with the argument ("qk_l2_norm is true").
  std::vector<std::string> unsupported;
};

// From Megatron-LM's arguments (reference: Checkpoint::arguments). An empty object states nothing.
// CONFIGURATION_INVALID for a value of the wrong type or outside its range.
absl::StatusOr<StatedConfiguration> ReadArguments(const nlohmann::json& arguments);

// From a config.json of one of the families in the tables: sizes and settings, of the text in a model that sees too.
// Which weights the model has is to be seen in the checkpoint, not there. CONFIGURATION_INVALID as above.
absl::StatusOr<StatedConfiguration> ReadHfConfig(const nlohmann::json& whole);

}  // namespace slipway::engine
