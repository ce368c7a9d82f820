// Groups of rules and fields that the families after DeepSeek share: latent attention, routed and shared experts after
// dense layers, layers that predict further tokens.
#pragma once

#include <array>

#include "worker/engine/model/architectures/config_groups.h"
#include "worker/engine/model/architectures/tensor_groups.h"

namespace slipway::engine {

namespace targets {

inline constexpr TargetRule kLatentQuery[] = {{"self_attn.q_proj.weight", {kLatentQueryRows, kHidden}}};
inline constexpr TargetRule kQueryDown[] = {{"self_attn.q_a_proj.weight", {kQueryRank, kHidden}}};
inline constexpr TargetRule kQueryRankNorm[] = {{"self_attn.q_a_layernorm.weight", {kQueryRank}}};
inline constexpr TargetRule kQueryUp[] = {{"self_attn.q_b_proj.weight", {kLatentQueryRows, kQueryRank}}};
inline constexpr TargetRule kKeyValueDown[] = {{"self_attn.kv_a_proj_with_mqa.weight", {kCompressedRows, kHidden}}};
inline constexpr TargetRule kKeyValueRankNorm[] = {{"self_attn.kv_a_layernorm.weight", {kKeyValueRank}}};
inline constexpr TargetRule kKeyValueUp[] = {{"self_attn.kv_b_proj.weight", {kLatentKeyValueRows, kKeyValueRank}}};
inline constexpr TargetRule kLatentOutput[] = {{"self_attn.o_proj.weight", {kHidden, kLatentValueRows}}};

inline constexpr TargetRule kNextEmbeddingNorm[] = {{"enorm.weight", {kHidden}}};
inline constexpr TargetRule kNextHiddenNorm[] = {{"hnorm.weight", {kHidden}}};
inline constexpr TargetRule kNextProjection[] = {{"eh_proj.weight", {kHidden, kTwiceHidden}}};
inline constexpr TargetRule kNextNorm[] = {{"shared_head.norm.weight", {kHidden}}};

}  // namespace targets

// Rows lie alike on both sides: queries [nope | rope] a head, compressed keys and values [rank | rope], keys and values
// [nope | value] a head; and both turn neighbouring pairs of rope's rows.
inline constexpr std::array kLatentAttentionRules = std::to_array<TensorRule>({
    {"input_layernorm.weight", targets::kInputNorm, Transform::kNorm},
    {"self_attention.linear_q_proj.weight", targets::kLatentQuery, Transform::kCopy, presences::kUnlessQueryRank},
    {"self_attention.linear_q_down_proj.weight", targets::kQueryDown, Transform::kCopy, presences::kIfQueryRank},
    {"self_attention.q_layernorm.weight", targets::kQueryRankNorm, Transform::kNorm, presences::kIfQueryRank},
    {"self_attention.linear_q_up_proj.weight", targets::kQueryUp, Transform::kCopy, presences::kIfQueryRank},
    {"self_attention.linear_kv_down_proj.weight", targets::kKeyValueDown},
    {"self_attention.kv_layernorm.weight", targets::kKeyValueRankNorm, Transform::kNorm},
    {"self_attention.linear_kv_up_proj.weight", targets::kKeyValueUp},
    {"self_attention.linear_proj.weight", targets::kLatentOutput},
});

// What follows attention: a dense gated MLP in the first layers, experts in the others.
inline constexpr auto kSharedExpertsMlpRules =
    Concatenate(kMlpNormRules, kGatedMlpRules, kRouterRules, kExpertBiasRules, kExpertRules, kSharedExpertsRules);

inline constexpr auto kLatentLayerRules = Concatenate(kLatentAttentionRules, kSharedExpertsMlpRules);

// Around the layer inside a prediction layer. Embeddings and head are the model's own.
inline constexpr std::array kPredictionRules = std::to_array<TensorRule>({
    {"enorm.weight", targets::kNextEmbeddingNorm, Transform::kNorm},
    {"hnorm.weight", targets::kNextHiddenNorm, Transform::kNorm},
    {"eh_proj.weight", targets::kNextProjection},
    {"final_layernorm.weight", targets::kNextNorm, Transform::kNorm},
});

// A decoder whose prediction layers are counted on from its own.
template <const auto& layer_rules>
inline constexpr std::array kPredictingDecoderBlocks = std::to_array<RuleBlock>({
    {Repeat::kOnce, "", "", kEmbeddingRules},
    {Repeat::kLayers, kDecoderLayers, kModelLayers, layer_rules},
    {Repeat::kPredictionLayers, "mtp.layers.{layer}.transformer_layer.", "model.layers.{next}.", layer_rules},
    {Repeat::kPredictionLayers, "mtp.layers.{layer}.", "model.layers.{next}.", kPredictionRules},
    {Repeat::kOnce, "", "", kHeadRules},
});

// RMSNorm, gated SiLU, no biases in linear layers; dense layers, if any, before those with experts; shared experts, if
// any, as wide as several routed ones.
bool IsSharedExpertsDecoder(const ModelConfiguration& configuration);
// The same with latent attention.
bool IsLatentDecoder(const ModelConfiguration& configuration);
// Experts are chosen by sigmoid, with a bias or without.
bool RoutesBySigmoid(const ModelConfiguration& configuration);

// Number of layers before the first with experts.
std::optional<nlohmann::json> DenseBeginning(const ModelConfiguration& configuration);
// "dense" or "sparse", layer by layer.
std::optional<nlohmann::json> MlpLayerTypes(const ModelConfiguration& configuration);
std::optional<nlohmann::json> SharedExperts(const ModelConfiguration& configuration);
std::optional<nlohmann::json> QueryRank(const ModelConfiguration& configuration);
std::optional<nlohmann::json> ExpertGroups(const ModelConfiguration& configuration);
std::optional<nlohmann::json> ActiveExpertGroups(const ModelConfiguration& configuration);
std::optional<nlohmann::json> ExpertScaling(const ModelConfiguration& configuration);
std::optional<nlohmann::json> ScoreFunction(const ModelConfiguration& configuration);
// How a sigmoid router chooses: by scores with a bias, or by the scores themselves.
std::optional<nlohmann::json> SigmoidChoice(const ModelConfiguration& configuration);
// Whether the weights of the chosen experts are normalized: where there are several.
std::optional<nlohmann::json> NormalizedSigmoids(const ModelConfiguration& configuration);
std::optional<nlohmann::json> NextTokenLayers(const ModelConfiguration& configuration);
// rope_scaling of latent attention: YaRN or null.
std::optional<nlohmann::json> LatentRopeScaling(const ModelConfiguration& configuration);

inline constexpr std::array kBareDecoderFields = std::to_array<ConfigField>({
    {"attention_dropout", NoDropout, true},
    {"hidden_act", Member<&ModelConfiguration::activation>},
    {"hidden_size", Member<&ModelConfiguration::hidden_size>},
    {"initializer_range", Member<&ModelConfiguration::initializer_range>, true},
    {"intermediate_size", Member<&ModelConfiguration::ffn_hidden_size>},
    {"max_position_embeddings", Member<&ModelConfiguration::maximum_positions>},
    {"num_attention_heads", Member<&ModelConfiguration::attention_heads>},
    {"num_hidden_layers", Member<&ModelConfiguration::layers>},
    {"rms_norm_eps", Member<&ModelConfiguration::norm_epsilon>},
    {"rope_theta", Member<&ModelConfiguration::rotary_base>},
    {"tie_word_embeddings", Member<&ModelConfiguration::tied_embeddings>},
    {"use_cache", Always<true>, true},
    {"vocab_size", Member<&ModelConfiguration::vocabulary_size>},
});

inline constexpr std::array kLatentFields = std::to_array<ConfigField>({
    {"attention_bias", Always<false>},
    {"kv_lora_rank", Nested<&ModelConfiguration::latent, &LatentAttentionConfiguration::key_value_rank>},
    {"num_key_value_heads", Member<&ModelConfiguration::attention_heads>},
    {"q_lora_rank", QueryRank},
    {"qk_nope_head_dim", Nested<&ModelConfiguration::latent, &LatentAttentionConfiguration::nope_dimension>},
    {"qk_rope_head_dim", Nested<&ModelConfiguration::latent, &LatentAttentionConfiguration::rope_dimension>},
    {"rope_scaling", LatentRopeScaling},
    {"v_head_dim", Nested<&ModelConfiguration::latent, &LatentAttentionConfiguration::value_dimension>},
});

inline constexpr std::array kSharedExpertsFields = std::to_array<ConfigField>({
    {"first_k_dense_replace", DenseBeginning},
    {"moe_intermediate_size", ExpertFfn},
    {"moe_layer_freq", Always<1>},
    {"n_group", ExpertGroups},
    {"n_routed_experts", Experts<&ExpertsConfiguration::count>},
    {"n_shared_experts", SharedExperts},
    {"num_experts_per_tok", Experts<&ExpertsConfiguration::active>},
    {"num_nextn_predict_layers", NextTokenLayers},
    {"output_router_logits", Always<false>, true},
    {"routed_scaling_factor", ExpertScaling},
    {"topk_group", ActiveExpertGroups},
});

// Of the families whose routers choose by sigmoid.
inline constexpr std::array kSigmoidRouterFields = std::to_array<ConfigField>({
    {"norm_topk_prob", NormalizedSigmoids},
    {"scoring_func", ScoreFunction},
    {"topk_method", SigmoidChoice},
});

inline constexpr auto kLatentDecoderFields = ConcatenateFields(kBareDecoderFields, kLatentFields, kSharedExpertsFields);

}  // namespace slipway::engine
