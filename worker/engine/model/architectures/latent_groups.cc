#include "worker/engine/model/architectures/latent_groups.h"

#include <algorithm>

#include "worker/engine/model/json_fields.h"

namespace slipway::engine {
namespace {

using nlohmann::json;

bool HasExperts(LayerKind kind) { return kind.feed == Feed::kExperts; }

bool HasExpertBias(const ModelConfiguration& c) { return c.Has("decoder.layers.{layer}.mlp.router.expert_bias"); }

std::int64_t SharedExpertCount(const ModelConfiguration& c) {
  return c.experts.shared_ffn_hidden_size.value_or(0) / c.experts.ffn_hidden_size.value_or(c.ffn_hidden_size);
}

}  // namespace

bool IsSharedExpertsDecoder(const ModelConfiguration& c) {
  const std::int64_t ffn = c.experts.ffn_hidden_size.value_or(c.ffn_hidden_size);
  return c.normalization == "RMSNorm" && c.gated && c.activation == "silu" && !c.linear_bias && !c.sliding_window &&
         c.experts.count && !c.experts.latent_size && c.experts.shared_ffn_hidden_size.value_or(0) % ffn == 0 &&
         c.position_embedding != "learned_absolute" && c.position_embedding != "none" &&
         std::ranges::is_partitioned(c.layer_kinds, [](LayerKind kind) { return !HasExperts(kind); }) &&
         std::ranges::all_of(c.layer_kinds, [](LayerKind kind) { return kind.mixer == Mixer::kAttention; });
}

bool IsLatentDecoder(const ModelConfiguration& c) {
  return IsSharedExpertsDecoder(c) && c.latent_attention && c.rotary_percent == 1.0;
}

bool RoutesBySigmoid(const ModelConfiguration& c) {
  return c.experts.score_function ? *c.experts.score_function == "sigmoid" : HasExpertBias(c);
}

std::optional<json> DenseBeginning(const ModelConfiguration& c) {
  return json(std::ranges::find_if(c.layer_kinds, HasExperts) - c.layer_kinds.begin());
}

std::optional<json> MlpLayerTypes(const ModelConfiguration& c) {
  json types = json::array();
  for (const LayerKind kind : c.layer_kinds) {
    types.push_back(HasExperts(kind) ? "sparse" : "dense");
  }
  return types;
}

// Null is what says "none" to the servers; 0 would be a module of no width.
std::optional<json> SharedExperts(const ModelConfiguration& c) {
  const std::int64_t count = SharedExpertCount(c);
  return count > 0 ? json(count) : json(nullptr);
}

std::optional<json> QueryRank(const ModelConfiguration& c) {
  return c.latent.query_rank ? json(*c.latent.query_rank) : json(nullptr);
}

std::optional<json> ExpertGroups(const ModelConfiguration& c) { return json(c.experts.groups.value_or(1)); }

std::optional<json> ActiveExpertGroups(const ModelConfiguration& c) {
  return json(c.experts.active_groups.value_or(1));
}

std::optional<json> ExpertScaling(const ModelConfiguration& c) { return json(c.experts.scaling.value_or(1.0)); }

std::optional<json> ScoreFunction(const ModelConfiguration& c) {
  return json(RoutesBySigmoid(c) ? "sigmoid" : "softmax");
}

std::optional<json> SigmoidChoice(const ModelConfiguration& c) {
  return json(HasExpertBias(c) ? "noaux_tc" : "greedy");
}

std::optional<json> NormalizedSigmoids(const ModelConfiguration& c) { return json(c.experts.active.value_or(2) > 1); }

std::optional<json> NextTokenLayers(const ModelConfiguration& c) { return json(c.prediction_kinds.size()); }

std::optional<json> LatentRopeScaling(const ModelConfiguration& c) {
  const YarnConfiguration& yarn = c.yarn;
  if (!yarn.factor) {
    return json(nullptr);
  }
  json scaling = {{"rope_type", "yarn"}, {"type", "yarn"}};
  const auto put = [&scaling](const char* name, const std::optional<double>& value) {
    if (value) {
      scaling[name] = *value;
    }
  };
  put("beta_fast", yarn.beta_fast);
  put("beta_slow", yarn.beta_slow);
  put("factor", yarn.factor);
  put("mscale", yarn.mscale);
  put("mscale_all_dim", yarn.mscale_all_dim);
  if (yarn.original_positions) {
    const double positions = std::clamp(*yarn.original_positions, 1.0, static_cast<double>(kMaximumExtent));
    scaling["original_max_position_embeddings"] = static_cast<std::int64_t>(positions);
  }
  return scaling;
}

}  // namespace slipway::engine
