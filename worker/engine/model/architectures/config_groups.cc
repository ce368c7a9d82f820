#include "worker/engine/model/architectures/config_groups.h"

#include <cstddef>

namespace slipway::engine {
namespace {

// Megatron-Core's constants of Llama 3.1's scaling; only the factor can be chosen there.
constexpr double kLowFrequencyFactor = 1.0;
constexpr double kHighFrequencyFactor = 4.0;
constexpr int kOriginalPositions = 8192;

}  // namespace

std::optional<nlohmann::json> NoDropout(const ModelConfiguration&) { return nlohmann::json(0.0); }

std::optional<nlohmann::json> RopeScaling(const ModelConfiguration& configuration) {
  if (configuration.llama3_rope_factor) {
    return nlohmann::json{{"rope_type", "llama3"},
                          {"factor", *configuration.llama3_rope_factor},
                          {"low_freq_factor", kLowFrequencyFactor},
                          {"high_freq_factor", kHighFrequencyFactor},
                          {"original_max_position_embeddings", kOriginalPositions}};
  }
  if (configuration.linear_rope_factor) {
    return nlohmann::json{{"rope_type", "linear"}, {"factor", *configuration.linear_rope_factor}};
  }
  return nlohmann::json(nullptr);
}

std::optional<nlohmann::json> SlidingWindow(const ModelConfiguration& configuration) {
  return configuration.sliding_window ? nlohmann::json(*configuration.sliding_window) : nlohmann::json(nullptr);
}

std::optional<nlohmann::json> FullAttentionLayers(const ModelConfiguration& configuration) {
  return nlohmann::json(nlohmann::json::array_t(static_cast<std::size_t>(configuration.layers), "full_attention"));
}

}  // namespace slipway::engine
