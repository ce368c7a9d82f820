#include "worker/engine/model/architectures/hybrid_config.h"

#include <algorithm>

namespace slipway::engine {

bool IsQwenHybrid(const ModelConfiguration& c) {
  const LinearAttentionConfiguration& linear = c.linear_attention;
  const auto is_known = [](const LayerKind& kind) {
    return (kind.mixer == Mixer::kAttention || kind.mixer == Mixer::kLinearAttention) && kind.feed != Feed::kNone;
  };
  const bool divides = linear.key_heads.value_or(0) > 0 && linear.value_heads.value_or(0) % *linear.key_heads == 0;
  return std::ranges::all_of(c.layer_kinds, is_known) && divides && c.attention_gate && c.qk_norm &&
         c.zero_centered_gamma && c.normalization == "RMSNorm" && c.gated && c.activation == "silu" &&
         !c.latent_attention && !c.qkv_bias && !c.linear_bias && !c.sliding_window && c.position_embedding == "rope" &&
         c.prediction_depth == 1 && c.prediction_kinds.size() <= 1;
}

std::optional<nlohmann::json> MixerTypes(const ModelConfiguration& c) {
  nlohmann::json types = nlohmann::json::array();
  for (const LayerKind& kind : c.layer_kinds) {
    types.push_back(kind.mixer == Mixer::kLinearAttention ? "linear_attention" : "full_attention");
  }
  return types;
}

std::optional<nlohmann::json> PredictionLayers(const ModelConfiguration& c) {
  const std::int64_t layers = static_cast<std::int64_t>(c.prediction_kinds.size()) / c.prediction_depth;
  return layers > 0 ? std::optional<nlohmann::json>(layers) : std::nullopt;
}

}  // namespace slipway::engine
