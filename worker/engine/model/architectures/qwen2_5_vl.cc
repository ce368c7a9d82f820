// Qwen2.5-VL as Megatron-Bridge trains it: Qwen2 for the text, and Hugging Face's own vision tower, whose weights keep
// their names. Training arguments say nothing of the tower: the model's config.json is needed and stays as it is.
#include "worker/engine/model/architectures/config_groups.h"
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/vision_groups.h"

namespace slipway::engine {
namespace {

using namespace extents;  // NOLINT(google-build-using-namespace)

constexpr auto kLayerRules = Concatenate(kAttentionRules, kQkvBiasRules, kMlpNormRules, kGatedMlpRules);

// Names of the tower are the same on both sides.
constexpr TargetRule kNorm1[] = {{"norm1.weight", {kVisionHidden}}};
constexpr TargetRule kNorm2[] = {{"norm2.weight", {kVisionHidden}}};
constexpr TargetRule kQkv[] = {{"attn.qkv.weight", {kVisionQkvRows, kVisionHidden}}};
constexpr TargetRule kQkvBias[] = {{"attn.qkv.bias", {kVisionQkvRows}}};
constexpr TargetRule kProjection[] = {{"attn.proj.weight", {kVisionHidden, kVisionHidden}}};
constexpr TargetRule kProjectionBias[] = {{"attn.proj.bias", {kVisionHidden}}};
constexpr TargetRule kGate[] = {{"mlp.gate_proj.weight", {kVisionFfn, kVisionHidden}}};
constexpr TargetRule kGateBias[] = {{"mlp.gate_proj.bias", {kVisionFfn}}};
constexpr TargetRule kUp[] = {{"mlp.up_proj.weight", {kVisionFfn, kVisionHidden}}};
constexpr TargetRule kUpBias[] = {{"mlp.up_proj.bias", {kVisionFfn}}};
constexpr TargetRule kDown[] = {{"mlp.down_proj.weight", {kVisionHidden, kVisionFfn}}};
constexpr TargetRule kDownBias[] = {{"mlp.down_proj.bias", {kVisionHidden}}};
constexpr TargetRule kMergerNorm[] = {{"merger.ln_q.weight", {kVisionHidden}}};
constexpr TargetRule kMerger1[] = {{"merger.mlp.0.weight", {kVisionMerged, kVisionMerged}}};
constexpr TargetRule kMerger1Bias[] = {{"merger.mlp.0.bias", {kVisionMerged}}};
constexpr TargetRule kMerger2[] = {{"merger.mlp.2.weight", {kVisionOutput, kVisionMerged}}};
constexpr TargetRule kMerger2Bias[] = {{"merger.mlp.2.bias", {kVisionOutput}}};

template <const auto& target>
constexpr TensorRule kKept = {target[0].name, target};

constexpr std::array kVisionLayerRules = {
    kKept<kNorm1>, kKept<kQkv>,      kKept<kQkvBias>, kKept<kProjection>, kKept<kProjectionBias>, kKept<kNorm2>,
    kKept<kGate>,  kKept<kGateBias>, kKept<kUp>,      kKept<kUpBias>,     kKept<kDown>,           kKept<kDownBias>};

constexpr std::array kVisionRules = {kKept<targets::kPatchEmbedding>,
                                     kKept<kMergerNorm>,
                                     kKept<kMerger1>,
                                     kKept<kMerger1Bias>,
                                     kKept<kMerger2>,
                                     kKept<kMerger2Bias>};

constexpr auto kBlocks = std::to_array<RuleBlock>({
    {Repeat::kOnce, "", "", kEmbeddingRules},
    {Repeat::kLayers, kDecoderLayers, kModelLayers, kLayerRules},
    {Repeat::kOnce, "", "", kHeadRules},
    {Repeat::kVisionLayers, "visual.blocks.{layer}.", "visual.blocks.{layer}.", kVisionLayerRules},
    {Repeat::kOnce, "visual.", "visual.", kVisionRules},
});

int Fit(const ModelConfiguration& c) {
  return IsSeeingDecoder(c) && !c.experts.count && c.qkv_bias && !c.linear_bias && !c.qk_norm && !c.sliding_window ? 3
                                                                                                                   : 0;
}

}  // namespace

const Architecture kQwen2_5Vl = {
    .name = "Qwen2_5_VLForConditionalGeneration",
    .model_type = "qwen2_5_vl",
    .summary = "Qwen2.5-VL, of Megatron-Bridge; with --hf-config",
    .blocks = kBlocks,
    .fields = {},
    .fit = Fit,
    .beyond_arguments = true,
    .proof = Proof::kMegatronBridge,
};

}  // namespace slipway::engine
