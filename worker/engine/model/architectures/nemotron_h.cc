// Nemotron-H: every layer is one thing, Mamba, attention without positions, an ungated MLP, or experts (of full or of
// latent width); each has one norm. Prediction layers are stacks of such layers, which Hugging Face counts through.
#include <algorithm>

#include "worker/engine/model/architectures/config_groups.h"
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/hybrid_groups.h"

namespace slipway::engine {
namespace {

using namespace extents;  // NOLINT(google-build-using-namespace)

constexpr Extent kLatent = [](const Configuration& c) { return c.experts.latent_size.value_or(c.hidden_size); };

constexpr TargetRule kEmbedding[] = {{"backbone.embeddings.weight", {kVocabulary, kHidden}}};
constexpr TargetRule kFinalNorm[] = {{"backbone.norm_f.weight", {kHidden}}};
constexpr TargetRule kNorm[] = {{"norm.weight", {kHidden}}};
constexpr TargetRule kQkv[] = {{"mixer.q_proj.weight", {kQueryRows, kHidden}},
                               {"mixer.k_proj.weight", {kKeyValueRows, kHidden}},
                               {"mixer.v_proj.weight", {kKeyValueRows, kHidden}}};
constexpr TargetRule kOutput[] = {{"mixer.o_proj.weight", {kHidden, kQueryRows}}};
constexpr TargetRule kUp[] = {{"mixer.up_proj.weight", {kFfn, kHidden}}};
constexpr TargetRule kDown[] = {{"mixer.down_proj.weight", {kHidden, kFfn}}};
constexpr TargetRule kRouter[] = {{"mixer.gate.weight", {kExperts, kHidden}}};
constexpr TargetRule kRouterBias[] = {{"mixer.gate.e_score_correction_bias", {kExperts}}};
constexpr TargetRule kExpertUp[] = {{"mixer.experts.{expert}.up_proj.weight", {kExpertFfn, kLatent}}};
constexpr TargetRule kExpertDown[] = {{"mixer.experts.{expert}.down_proj.weight", {kLatent, kExpertFfn}}};
constexpr TargetRule kSharedUp[] = {{"mixer.shared_experts.up_proj.weight", {kSharedFfn, kHidden}}};
constexpr TargetRule kSharedDown[] = {{"mixer.shared_experts.down_proj.weight", {kHidden, kSharedFfn}}};
constexpr TargetRule kIntoLatent[] = {{"mixer.fc1_latent_proj.weight", {kLatent, kHidden}}};
constexpr TargetRule kOutOfLatent[] = {{"mixer.fc2_latent_proj.weight", {kHidden, kLatent}}};
constexpr TargetRule kProjection[] = {{"eh_proj.weight", {kHidden, kTwiceHidden}}};
constexpr TargetRule kEmbeddingNorm[] = {{"enorm.weight", {kHidden}}};
constexpr TargetRule kHiddenNorm[] = {{"hnorm.weight", {kHidden}}};
constexpr TargetRule kPredictionNorm[] = {{"final_layernorm.weight", {kHidden}}};

constexpr Presence kIfLatent{[](const ModelConfiguration& c) { return c.experts.latent_size.has_value(); },
                             "the configuration has no latent experts"};

constexpr auto kLayerRules = Concatenate(
    std::to_array<TensorRule>({
        {"input_layernorm.weight", kNorm, Transform::kNorm, presences::kAlways, Layers::kAnyMixer},
        {"pre_mlp_layernorm.weight", kNorm, Transform::kNorm, presences::kAlways, Layers::kAnyFeed},
        {"self_attention.linear_qkv.weight", kQkv, Transform::kQkv, presences::kAlways, Layers::kAttention},
        {"self_attention.linear_proj.weight", kOutput, Transform::kCopy, presences::kAlways, Layers::kAttention},
        {"mlp.linear_fc1.weight", kUp, Transform::kCopy, presences::kAlways, Layers::kDense},
        {"mlp.linear_fc2.weight", kDown, Transform::kCopy, presences::kAlways, Layers::kDense},
        {"mlp.router.weight", kRouter, Transform::kCopy, presences::kAlways, Layers::kExperts},
        {"mlp.router.expert_bias", kRouterBias, Transform::kCopy, presences::kAlways, Layers::kExperts, Axes::kAsStored,
         true},
        {"mlp.experts.{expert}.linear_fc1.weight", kExpertUp, Transform::kCopy, presences::kAlways, Layers::kExperts},
        {"mlp.experts.{expert}.linear_fc2.weight", kExpertDown, Transform::kCopy, presences::kAlways, Layers::kExperts},
        {"mlp.shared_experts.linear_fc1.weight", kSharedUp, Transform::kCopy, presences::kAlways, Layers::kExperts},
        {"mlp.shared_experts.linear_fc2.weight", kSharedDown, Transform::kCopy, presences::kAlways, Layers::kExperts},
        {"mlp.fc1_latent_proj.weight", kIntoLatent, Transform::kCopy, kIfLatent, Layers::kExperts},
        {"mlp.fc2_latent_proj.weight", kOutOfLatent, Transform::kCopy, kIfLatent, Layers::kExperts},
    }),
    kMambaRules);

constexpr auto kEmbeddingRule =
    std::to_array<TensorRule>({{"embedding.word_embeddings.weight", kEmbedding, Transform::kVocabulary}});
constexpr auto kOutputRules = std::to_array<TensorRule>({
    {"decoder.final_layernorm.weight", kFinalNorm, Transform::kNorm},
    {"output_layer.weight", targets::kHead, Transform::kVocabulary, presences::kUnlessTied},
});
constexpr auto kPredictionBeginRules = std::to_array<TensorRule>({
    {"eh_proj.weight", kProjection},
    {"enorm.weight", kEmbeddingNorm, Transform::kNorm},
    {"hnorm.weight", kHiddenNorm, Transform::kNorm},
});
constexpr auto kPredictionEndRules =
    std::to_array<TensorRule>({{"final_layernorm.weight", kPredictionNorm, Transform::kNorm}});

constexpr auto kBlocks = std::to_array<RuleBlock>({
    {Repeat::kOnce, "", "", kEmbeddingRule},
    {Repeat::kLayers, kDecoderLayers, "backbone.layers.{layer}.", kLayerRules},
    {Repeat::kOnce, "", "", kOutputRules},
    {Repeat::kPredictionLayers, kPredictionLayer, "mtp.layers.{first}.", kPredictionBeginRules},
    {Repeat::kInnerPredictionLayers, "mtp.layers.{layer}.mtp_model_layer.layers.{inner}.", "mtp.layers.{layer}.",
     kLayerRules},
    {Repeat::kPredictionLayers, kPredictionLayer, "mtp.layers.{last}.", kPredictionEndRules},
});

char LetterOf(const LayerKind& kind) {
  if (kind.mixer != Mixer::kNone) {
    return kind.mixer == Mixer::kMamba ? 'M' : '*';
  }
  return kind.feed == Feed::kExperts ? 'E' : '-';
}

std::string PatternOf(const std::vector<LayerKind>& kinds, std::size_t count) {
  std::string pattern;
  for (std::size_t layer = 0; layer < count; ++layer) {
    pattern += LetterOf(kinds[layer]);
  }
  return pattern;
}

std::optional<nlohmann::json> Pattern(const ModelConfiguration& c) {
  return PatternOf(c.layer_kinds, c.layer_kinds.size());
}

std::optional<nlohmann::json> PredictionPattern(const ModelConfiguration& c) {
  return c.prediction_kinds.empty() ? std::nullopt
                                    : std::optional<nlohmann::json>(
                                          PatternOf(c.prediction_kinds, static_cast<std::size_t>(c.prediction_depth)));
}

std::optional<nlohmann::json> Predictions(const ModelConfiguration& c) {
  return static_cast<std::int64_t>(c.prediction_kinds.size()) / c.prediction_depth;
}

std::optional<nlohmann::json> ConvolutionBias(const ModelConfiguration& c) {
  return c.Has("decoder.layers.{layer}.mixer.conv1d.bias");
}

// The value of a member of the experts' settings, or 1: no groups, no scaling.
template <auto member>
std::optional<nlohmann::json> OrOne(const ModelConfiguration& c) {
  const auto& value = c.experts.*member;
  return c.experts.count ? std::optional<nlohmann::json>(value.value_or(1)) : std::nullopt;
}

template <auto member>
std::optional<nlohmann::json> OfMamba(const ModelConfiguration& c) {
  return Nested<&ModelConfiguration::mamba, member>(c);
}

std::optional<nlohmann::json> RoutedFfn(const ModelConfiguration& c) {
  return c.experts.count ? ExpertFfn(c) : std::nullopt;
}

std::optional<nlohmann::json> SharedExperts(const ModelConfiguration& c) {
  return c.experts.count ? std::optional<nlohmann::json>(1) : std::nullopt;
}

constexpr auto kFields = std::to_array<ConfigField>({
    {"attention_bias", Always<false>},
    {"attention_dropout", NoDropout, true},
    {"chunk_size", OfMamba<&MambaConfiguration::chunk>, true},
    {"conv_kernel", OfMamba<&MambaConfiguration::kernel>},
    {"head_dim", Member<&ModelConfiguration::head_dimension>},
    {"hidden_size", Member<&ModelConfiguration::hidden_size>},
    {"hybrid_override_pattern", Pattern},
    {"initializer_range", Member<&ModelConfiguration::initializer_range>, true},
    {"intermediate_size", Member<&ModelConfiguration::ffn_hidden_size>},
    {"layer_norm_epsilon", Member<&ModelConfiguration::norm_epsilon>},
    {"mamba_head_dim", OfMamba<&MambaConfiguration::head_dimension>},
    {"mamba_num_heads", OfMamba<&MambaConfiguration::heads>},
    {"mamba_proj_bias", Always<false>},
    {"max_position_embeddings", Member<&ModelConfiguration::maximum_positions>},
    {"mlp_bias", Always<false>},
    {"mlp_hidden_act", Member<&ModelConfiguration::activation>},
    {"moe_intermediate_size", RoutedFfn},
    {"moe_latent_size", Experts<&ExpertsConfiguration::latent_size>},
    {"moe_shared_expert_intermediate_size", Experts<&ExpertsConfiguration::shared_ffn_hidden_size>},
    {"mtp_hybrid_override_pattern", PredictionPattern},
    {"n_group", OrOne<&ExpertsConfiguration::groups>},
    {"n_groups", OfMamba<&MambaConfiguration::groups>},
    {"n_routed_experts", Experts<&ExpertsConfiguration::count>},
    {"n_shared_experts", SharedExperts, true},
    {"num_attention_heads", Member<&ModelConfiguration::attention_heads>},
    {"num_experts_per_tok", Experts<&ExpertsConfiguration::active>},
    {"num_hidden_layers", Member<&ModelConfiguration::layers>},
    {"num_key_value_heads", Member<&ModelConfiguration::query_groups>},
    {"num_nextn_predict_layers", Predictions},
    {"routed_scaling_factor", OrOne<&ExpertsConfiguration::scaling>},
    {"ssm_state_size", OfMamba<&MambaConfiguration::state_dimension>},
    {"tie_word_embeddings", Member<&ModelConfiguration::tied_embeddings>},
    {"topk_group", OrOne<&ExpertsConfiguration::active_groups>},
    {"use_bias", Always<false>},
    {"use_cache", Always<true>, true},
    {"use_conv_bias", ConvolutionBias},
    {"vocab_size", Member<&ModelConfiguration::vocabulary_size>},
});

int Fit(const ModelConfiguration& c) {
  const auto is_one_thing = [](const LayerKind& kind) {
    return (kind.mixer == Mixer::kNone) != (kind.feed == Feed::kNone) && kind.mixer != Mixer::kLinearAttention;
  };
  return std::ranges::all_of(c.layer_kinds, is_one_thing) && std::ranges::all_of(c.prediction_kinds, is_one_thing) &&
                 c.normalization == "RMSNorm" && !c.gated && c.activation == "relu2" &&
                 c.position_embedding != "rope" && c.experts.score_function.value_or("sigmoid") == "sigmoid" &&
                 !c.qk_norm && !c.qkv_bias && !c.linear_bias && !c.latent_attention && !c.attention_gate &&
                 !c.sliding_window
             ? 3
             : 0;
}

}  // namespace

const Architecture kNemotronH = {
    .name = "NemotronHForCausalLM",
    .model_type = "nemotron_h",
    .summary = "Nemotron-H, Nemotron Nano 2 and Nemotron 3",
    .blocks = kBlocks,
    .fields = kFields,
    .fit = Fit,
    .proof = Proof::kMegatronBridge,
};

}  // namespace slipway::engine
