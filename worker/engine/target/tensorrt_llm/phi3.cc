// Phi-3 and Phi-4: q, k and v joined as the engine has them; gate and up joined the other way round, which the engine
// takes for one plain layer under a gated activation. The class knows no stages.
#include "common/error.h"
#include "worker/engine/target/tensorrt_llm/families.h"
#include "worker/engine/target/tensorrt_llm/rules.h"

namespace slipway::engine::tensorrt_llm {
namespace {

constexpr auto kRules = std::to_array<ModuleRule>({
    Norm("input_layernorm", "input_layernorm"),
    Heads(HeadOrder::kJoined, "self_attn.qkv_proj", Bias::kNone),
    Linear("attention.dense", Split::kColumns, "self_attn.o_proj", kHidden, kQueryRows),
    Norm("post_layernorm", "post_attention_layernorm"),
    UpAboveGate("mlp.fc", Split::kRows, Source{"mlp.gate_up_proj", 1, 2}, Source{"mlp.gate_up_proj", 0, 2}, kFfn),
    Linear("mlp.proj", Split::kColumns, "mlp.down_proj", kHidden, kFfn),
});

absl::Status Learn(const HuggingFaceModel&, JsonFields& config, EngineModel& model) {
  if (model.rope.long_rope.is_null()) {
    return absl::OkStatus();
  }
  model.position_embedding = "long_rope";
  if (!config.Size({"original_max_position_embeddings"})) {
    SLIPWAY_RETURN_IF_ERROR(config.status());
    return Error(Reason::kConfigurationInvalid, "config.json lacks original_max_position_embeddings");
  }
  return absl::OkStatus();
}

void Describe(const EngineModel& model, const nlohmann::json& config, nlohmann::ordered_json& engine) {
  engine["rotary_pct"] = model.rope.fraction;
  if (!model.rope.long_rope.is_null()) {
    engine["original_max_position_embeddings"] = config["original_max_position_embeddings"];
    engine["longrope_scaling_short_factors"] = model.rope.long_rope["short_factor"];
    engine["longrope_scaling_long_factors"] = model.rope.long_rope["long_factor"];
  }
}

}  // namespace

const Family kPhi3 = {
    .architecture = "Phi3ForCausalLM",
    .engine = "Phi3ForCausalLM",
    .rules = kRules,
    .gated_name = true,
    .has_stages = false,
    .plain_head_size = true,
    .learn = Learn,
    .describe = Describe,
};

}  // namespace slipway::engine::tensorrt_llm
