// Phi-3: Llama's tensors, with q, k and v joined, and gate and up. Nothing in a checkpoint tells it from Llama, so it
// is chosen by name only.
#include "worker/engine/model/architectures/config_groups.h"
#include "worker/engine/model/architectures/families.h"
#include "worker/engine/model/architectures/tensor_groups.h"

namespace slipway::engine {
namespace {

using namespace extents;  // NOLINT(google-build-using-namespace)

constexpr TargetRule kQkv[] = {{"self_attn.qkv_proj.weight", {kQkvRows, kHidden}}};
constexpr TargetRule kGateUp[] = {{"mlp.gate_up_proj.weight", {kTwiceFfn, kHidden}}};

constexpr auto kLayerRules = Concatenate(std::to_array<TensorRule>({
                                             {"input_layernorm.weight", targets::kInputNorm, Transform::kNorm},
                                             {"self_attention.linear_qkv.weight", kQkv, Transform::kQkvJoined},
                                             {"self_attention.linear_proj.weight", targets::kOutput},
                                         }),
                                         kMlpNormRules,
                                         std::to_array<TensorRule>({
                                             {"mlp.linear_fc1.weight", kGateUp},
                                             {"mlp.linear_fc2.weight", targets::kDown},
                                         }));

std::optional<nlohmann::json> Positions(const ModelConfiguration& c) { return nlohmann::json(c.maximum_positions); }

constexpr auto kFields =
    ConcatenateFields(kDecoderFields, std::to_array<ConfigField>({
                                          {"embd_pdrop", AlwaysRatio<0, 1>, true},
                                          {"original_max_position_embeddings", Positions, true},
                                          {"pad_token_id", Always<nullptr>, true},
                                          {"partial_rotary_factor", Member<&ModelConfiguration::rotary_percent>},
                                          {"resid_pdrop", AlwaysRatio<0, 1>, true},
                                          {"rope_parameters", PartialRope},
                                          {"sliding_window", SlidingWindow},
                                      }));

int Fit(const ModelConfiguration& c) {
  return IsPlainDecoder(c) && !c.qk_norm && !c.qkv_bias && !c.linear_bias ? 1 : 0;
}

}  // namespace

const Architecture kPhi3 = {
    .name = "Phi3ForCausalLM",
    .model_type = "phi3",
    .summary = "Phi-3 and Phi-4; name it with --architecture",
    .blocks = kDecoderBlocks<kLayerRules>,
    .fields = kFields,
    .fit = Fit,
    .proof = Proof::kDerived,
};

}  // namespace slipway::engine
