// Llama 4, text only: positions rotated in pairs, in some layers none; queries and keys normalized without weights;
// experts, stacked and transposed, beside a shared one; dense layers among them.
#include <algorithm>

#include "worker/engine/model/architectures/config_groups.h"
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/tensor_groups.h"

namespace slipway::engine {
namespace {

using namespace extents;  // NOLINT(google-build-using-namespace)

constexpr TargetRule kGateUp[] = {{"feed_forward.gate_proj.weight", {kFfn, kHidden}},
                                  {"feed_forward.up_proj.weight", {kFfn, kHidden}}};
constexpr TargetRule kDown[] = {{"feed_forward.down_proj.weight", {kHidden, kFfn}}};
constexpr TargetRule kRouter[] = {{"feed_forward.router.weight", {kExperts, kHidden}}};
constexpr TargetRule kExpertGateUp[] = {{"feed_forward.experts.gate_up_proj", {kExperts, kHidden, kTwiceExpertFfn}}};
constexpr TargetRule kExpertDown[] = {{"feed_forward.experts.down_proj", {kExperts, kExpertFfn, kHidden}}};
constexpr TargetRule kSharedGateUp[] = {{"feed_forward.shared_expert.gate_proj.weight", {kSharedFfn, kHidden}},
                                        {"feed_forward.shared_expert.up_proj.weight", {kSharedFfn, kHidden}}};
constexpr TargetRule kSharedDown[] = {{"feed_forward.shared_expert.down_proj.weight", {kHidden, kSharedFfn}}};

constexpr auto kLayerRules = Concatenate(
    kAttentionRules, kMlpNormRules,
    std::to_array<TensorRule>({
        {"mlp.linear_fc1.weight", kGateUp, Transform::kSplit, presences::kAlways, Layers::kDense},
        {"mlp.linear_fc2.weight", kDown, Transform::kCopy, presences::kAlways, Layers::kDense},
        {"mlp.router.weight", kRouter, Transform::kCopy, presences::kAlways, Layers::kExperts},
        {"mlp.experts.{expert}.linear_fc1.weight", kExpertGateUp, Transform::kCopy, presences::kAlways,
         Layers::kExperts, Axes::kTransposed},
        {"mlp.experts.{expert}.linear_fc2.weight", kExpertDown, Transform::kCopy, presences::kAlways, Layers::kExperts,
         Axes::kTransposed},
        {"mlp.shared_experts.linear_fc1.weight", kSharedGateUp, Transform::kSplit, presences::kAlways,
         Layers::kExperts},
        {"mlp.shared_experts.linear_fc2.weight", kSharedDown, Transform::kCopy, presences::kAlways, Layers::kExperts},
    }));

constexpr std::string_view kWithoutRope = "no_rope_freq";
constexpr std::string_view kPairs = "rotary_interleaved";
constexpr std::string_view kNormalized = "qk_l2_norm";
constexpr std::string_view kWeighedInput = "moe_apply_probs_on_input";
constexpr std::array kAccepted = {kWithoutRope, kPairs, kNormalized, kWeighedInput};

std::optional<nlohmann::json> ExpertLayers(const ModelConfiguration& c) {
  nlohmann::json layers = nlohmann::json::array();
  for (std::size_t layer = 0; layer < c.layer_kinds.size(); ++layer) {
    if (c.layer_kinds[layer].feed == Feed::kExperts) {
      layers.push_back(layer);
    }
  }
  return layers;
}

// Every how manieth layer has experts, the last of each such group; 0 where they are spread otherwise.
std::int64_t ExpertStep(const ModelConfiguration& c) {
  const auto is_expert = [](const LayerKind& kind) { return kind.feed == Feed::kExperts; };
  const std::int64_t step = std::ranges::find_if(c.layer_kinds, is_expert) - c.layer_kinds.begin() + 1;
  for (std::size_t layer = 0; layer < c.layer_kinds.size(); ++layer) {
    if (is_expert(c.layer_kinds[layer]) != ((static_cast<std::int64_t>(layer) + 1) % step == 0)) {
      return 0;
    }
  }
  return step;
}

std::optional<nlohmann::json> StepOfExperts(const ModelConfiguration& c) { return ExpertStep(c); }

// 1 where a layer has rotary positions.
std::vector<std::int64_t> HasRope(const ModelConfiguration& c) {
  return c.rotary_layers.empty() ? std::vector<std::int64_t>(c.layer_kinds.size(), 1) : c.rotary_layers;
}

std::optional<nlohmann::json> RotaryLayers(const ModelConfiguration& c) { return HasRope(c); }

std::optional<nlohmann::json> AttentionTypes(const ModelConfiguration& c) {
  nlohmann::json types = nlohmann::json::array();
  for (const std::int64_t has_rope : HasRope(c)) {
    types.push_back(has_rope == 1 ? "chunked_attention" : "full_attention");
  }
  return types;
}

std::optional<nlohmann::json> NormalizesQueries(const ModelConfiguration& c) { return c.Says(kNormalized); }

constexpr auto kFields = ConcatenateFields(kDecoderFieldsWithoutFfn,
                                           std::to_array<ConfigField>({
                                               {"attention_bias", Always<false>},
                                               {"attention_chunk_size", Always<8192>, true},
                                               {"attn_scale", AlwaysRatio<1, 10>, true},
                                               {"attn_temperature_tuning", Always<true>, true},
                                               {"floor_scale", Always<8192>, true},
                                               {"interleave_moe_layer_step", StepOfExperts},
                                               {"intermediate_size", ExpertFfn},
                                               {"intermediate_size_mlp", Member<&ModelConfiguration::ffn_hidden_size>},
                                               {"layer_types", AttentionTypes, true},
                                               {"moe_layers", ExpertLayers},
                                               {"no_rope_layers", RotaryLayers},
                                               {"num_experts_per_tok", Experts<&ExpertsConfiguration::active>},
                                               {"num_local_experts", Experts<&ExpertsConfiguration::count>},
                                               {"output_router_logits", Always<false>, true},
                                               {"router_aux_loss_coef", AuxiliaryLoss, true},
                                               {"router_jitter_noise", AlwaysRatio<0, 1>, true},
                                               {"use_qk_norm", NormalizesQueries},
                                           }));

int Fit(const ModelConfiguration& c) {
  // The shared expert has the size of the others there, and servers know the layers with experts by their step.
  const bool shares_size = c.experts.shared_ffn_hidden_size.value_or(0) == c.experts.ffn_hidden_size.value_or(-1);
  return IsExpertsDecoder(c) && c.Says(kPairs) && c.Says(kWeighedInput) &&
                 c.experts.score_function.value_or("") == "sigmoid" && shares_size && ExpertStep(c) > 0 && !c.qk_norm &&
                 !c.qkv_bias && !c.linear_bias && !c.sliding_window
             ? 5
             : 0;
}

}  // namespace

const Architecture kLlama4 = {
    .name = "Llama4ForCausalLM",
    .model_type = "llama4_text",
    .summary = "Llama 4, text",
    .blocks = kDecoderBlocks<kLayerRules>,
    .fields = kFields,
    .fit = Fit,
    .accepts = kAccepted,
    .proof = Proof::kDerived,
};

}  // namespace slipway::engine
