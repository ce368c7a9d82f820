// GLM-5: DeepSeek-V3 with an indexer in every layer that picks the tokens to attend to.
#include "worker/engine/model/architectures/config_groups.h"
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/latent_groups.h"
#include "worker/engine/model/architectures/tensor_groups.h"

namespace slipway::engine {
namespace {

using namespace extents;  // NOLINT(google-build-using-namespace)

constexpr TargetRule kQuery[] = {{"self_attn.indexer.wq_b.weight", {kIndexerRows, kQueryRank}}};
constexpr TargetRule kKey[] = {{"self_attn.indexer.wk.weight", {kIndexerDimension, kHidden}}};
constexpr TargetRule kKeyNorm[] = {{"self_attn.indexer.k_norm.weight", {kIndexerDimension}}};
constexpr TargetRule kKeyNormBias[] = {{"self_attn.indexer.k_norm.bias", {kIndexerDimension}}};
constexpr TargetRule kWeights[] = {{"self_attn.indexer.weights_proj.weight", {kIndexerHeads, kHidden}}};

constexpr auto kLayerRules =
    Concatenate(kLatentAttentionRules,
                std::to_array<TensorRule>({
                    {"self_attention.core_attention.indexer.linear_wq_b.weight", kQuery},
                    {"self_attention.core_attention.indexer.linear_wk.weight", kKey},
                    {"self_attention.core_attention.indexer.k_norm.weight", kKeyNorm, Transform::kNorm},
                    {"self_attention.core_attention.indexer.k_norm.bias", kKeyNormBias},
                    {"self_attention.core_attention.indexer.linear_weights_proj.weight", kWeights},
                }),
                kSharedExpertsMlpRules);

constexpr auto kFields = ConcatenateFields(
    kLatentDecoderFields, kSigmoidRouterFields,
    std::to_array<ConfigField>(
        {{"head_dim", Nested<&ModelConfiguration::latent, &LatentAttentionConfiguration::rope_dimension>},
         {"index_head_dim", Nested<&ModelConfiguration::indexer, &IndexerConfiguration::head_dimension>},
         {"index_n_heads", Nested<&ModelConfiguration::indexer, &IndexerConfiguration::heads>},
         {"index_topk", Nested<&ModelConfiguration::indexer, &IndexerConfiguration::tokens>},
         {"indexer_rope_interleave", Always<true>, true},
         {"mlp_layer_types", MlpLayerTypes}}));

int Fit(const ModelConfiguration& c) {
  return IsLatentDecoder(c) && RoutesBySigmoid(c) && c.latent.query_rank && c.indexer.heads &&
                 c.indexer.interleaved.value_or(true)
             ? 2
             : 0;
}

}  // namespace

const Architecture kGlmMoeDsa = {
    .name = "GlmMoeDsaForCausalLM",
    .model_type = "glm_moe_dsa",
    .summary = "GLM-5",
    .blocks = kPredictingDecoderBlocks<kLayerRules>,
    .fields = kFields,
    .fit = Fit,
    .proof = Proof::kMegatronBridge,
};

}  // namespace slipway::engine
