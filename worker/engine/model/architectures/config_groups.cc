#include "worker/engine/model/architectures/config_groups.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace slipway::engine {
namespace {

// Megatron-Core's constants of Llama 3.1's scaling; only the factor can be chosen there.
constexpr double kLowFrequencyFactor = 1.0;
constexpr double kHighFrequencyFactor = 4.0;
constexpr int kOriginalPositions = 8192;

bool HasRotaryLayers(const ModelConfiguration& c) {
  return c.normalization == "RMSNorm" && !c.latent_attention && c.rotary_percent == 1.0 && !c.attention_gate &&
         HasOnlyAttention(c);
}

}  // namespace

bool HasOnlyAttention(const ModelConfiguration& c) {
  return std::ranges::all_of(
      c.layer_kinds, [](const LayerKind& kind) { return kind.mixer == Mixer::kAttention && kind.feed != Feed::kNone; });
}

bool IsRotaryDecoder(const ModelConfiguration& c) { return c.position_embedding == "rope" && HasRotaryLayers(c); }

bool IsLayerNormDecoder(const ModelConfiguration& c) {
  return c.normalization == "LayerNorm" && !c.latent_attention && !c.gated && c.activation.starts_with("gelu") &&
         !c.experts.count;
}

bool IsPlainDecoder(const ModelConfiguration& c) {
  return IsRotaryDecoder(c) && c.gated && c.activation == "silu" && !c.experts.count;
}

bool IsExpertsDecoder(const ModelConfiguration& c) {
  return IsRotaryDecoder(c) && c.gated && c.activation == "silu" && c.experts.count;
}

bool IsSeeingDecoder(const ModelConfiguration& c) {
  const VisionConfiguration& vision = c.vision;
  const auto is_positive = [](const std::optional<std::int64_t>& size) { return size.value_or(0) > 0; };
  return HasRotaryLayers(c) && (c.position_embedding == "rope" || c.position_embedding == "mrope") && c.gated &&
         c.activation == "silu" &&
         std::ranges::all_of(
             std::array{vision.layers, vision.hidden_size, vision.ffn_hidden_size, vision.heads, vision.channels,
                        vision.patch_size, vision.frames, vision.merge_size, vision.output_size},
             is_positive) &&
         *vision.hidden_size % *vision.heads == 0;
}

bool RoutesBySoftmax(const ModelConfiguration& c) {
  return c.experts.score_function.value_or("softmax") == "softmax" && c.experts.groups.value_or(1) <= 1 &&
         c.experts.scaling.value_or(1.0) == 1.0;
}

std::optional<nlohmann::json> AuxiliaryLoss(const ModelConfiguration& c) {
  return c.experts.auxiliary_loss.value_or(0.0) > 0.0 ? std::optional<nlohmann::json>(*c.experts.auxiliary_loss)
                                                      : std::nullopt;
}

std::optional<nlohmann::json> NormalizedWeights(const ModelConfiguration& c) {
  return nlohmann::json(!c.experts.pre_softmax.value_or(false));
}

std::optional<nlohmann::json> DenseLayers(const ModelConfiguration& c) {
  nlohmann::json layers = nlohmann::json::array();
  for (std::size_t layer = 0; layer < c.layer_kinds.size(); ++layer) {
    if (c.layer_kinds[layer].feed == Feed::kDense) {
      layers.push_back(layer);
    }
  }
  return layers;
}

std::optional<nlohmann::json> ExpertFfn(const ModelConfiguration& c) {
  return nlohmann::json(c.experts.ffn_hidden_size.value_or(c.ffn_hidden_size));
}

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

std::optional<nlohmann::json> PartialRope(const ModelConfiguration& configuration) {
  nlohmann::json rope = *RopeScaling(configuration);
  rope = rope.is_object() ? rope : nlohmann::json{{"rope_type", "default"}};
  rope["rope_theta"] = configuration.rotary_base;
  rope["partial_rotary_factor"] = configuration.rotary_percent;
  return rope;
}

std::optional<nlohmann::json> SlidingWindow(const ModelConfiguration& configuration) {
  return configuration.sliding_window ? nlohmann::json(*configuration.sliding_window) : nlohmann::json(nullptr);
}

std::optional<nlohmann::json> FullAttentionLayers(const ModelConfiguration& configuration) {
  return nlohmann::json(nlohmann::json::array_t(static_cast<std::size_t>(configuration.layers), "full_attention"));
}

}  // namespace slipway::engine
