// Qwen2 and Qwen3, dense and with experts: TensorRT-LLM's class QWen, which asks `qwen_type` what it is.
#include "common/error.h"
#include "worker/engine/target/tensorrt_llm/families.h"
#include "worker/engine/target/tensorrt_llm/rules.h"

namespace slipway::engine::tensorrt_llm {
namespace {

constexpr auto kQwen2Rules = Join(kPlainOutputRules, kGatedMlpRules);
constexpr auto kQwen3Rules = Join(kPlainOutputRules, kHeadNormRules, kGatedMlpRules);
constexpr auto kQwen3MoeRules = Join(kPlainOutputRules, kHeadNormRules, kExpertRules);

constexpr auto kQwen2MoeRules = Join(
    kPlainOutputRules, kExpertRules,
    std::to_array<ModuleRule>({
        UpAboveGate("mlp.shared_expert.fc", Split::kRows, Source{"mlp.shared_expert.up_proj"},
                    Source{"mlp.shared_expert.gate_proj"}, kSharedExpertFfn),
        Linear("mlp.shared_expert.proj", Split::kColumns, "mlp.shared_expert.down_proj", kHidden, kSharedExpertFfn),
        Linear("mlp.shared_expert_gate", Split::kNone, "mlp.shared_expert_gate", kOne, kHidden),
    }));

void Describe(const char* type, const EngineModel& model, nlohmann::ordered_json& engine) {
  constexpr int kSequenceLength = 8192;  // read by the class, used by the first Qwen only
  engine["qwen_type"] = type;
  engine["seq_length"] = kSequenceLength;
  engine["attn_bias"] = model.attention_bias;
  engine["mlp_bias"] = model.mlp_bias;
  if (model.experts > 0) {
    engine["moe_intermediate_size"] = model.expert_ffn;
    engine["moe_shared_expert_intermediate_size"] = model.shared_expert_ffn;
  }
}

absl::Status LearnExperts(JsonFields& config, EngineModel& model) {
  model.expert_ffn = config.Size({"moe_intermediate_size"}).value_or(0);
  model.normalizes_experts = config.Flag({"norm_topk_prob"}).value_or(false);
  const nlohmann::json* dense = config.Find({"mlp_only_layers"});
  if (config.Size({"decoder_sparse_step"}).value_or(1) != 1 || (dense != nullptr && !dense->empty())) {
    return Error(Reason::kOptionUnsupported,
                 "some of the model's layers have no experts, and all layers of TensorRT-LLM's class do; --target "
                 "huggingface keeps them");
  }
  return absl::OkStatus();
}

absl::Status LearnQwen2Moe(const HuggingFaceModel&, JsonFields& config, EngineModel& model) {
  model.shared_expert_ffn = config.Size({"shared_expert_intermediate_size"}).value_or(0);
  if (model.shared_expert_ffn == 0) {
    return Error(Reason::kConfigurationInvalid, "config.json lacks shared_expert_intermediate_size");
  }
  return LearnExperts(config, model);
}

absl::Status LearnQwen3Moe(const HuggingFaceModel&, JsonFields& config, EngineModel& model) {
  return LearnExperts(config, model);
}

}  // namespace

const Family kQwen2 = {
    .architecture = "Qwen2ForCausalLM",
    .engine = "Qwen2ForCausalLM",
    .rules = kQwen2Rules,
    .describe = [](const EngineModel& model, const nlohmann::json&,
                   nlohmann::ordered_json& engine) { Describe("qwen2", model, engine); },
};

// Where older versions kept the shared expert is another place.
const Family kQwen2Moe = {
    .architecture = "Qwen2MoeForCausalLM",
    .engine = "Qwen2MoeForCausalLM",
    .since = {0, 17},
    .rules = kQwen2MoeRules,
    .learn = LearnQwen2Moe,
    .describe = [](const EngineModel& model, const nlohmann::json&,
                   nlohmann::ordered_json& engine) { Describe("qwen2_moe", model, engine); },
};

const Family kQwen3 = {
    .architecture = "Qwen3ForCausalLM",
    .engine = "Qwen3ForCausalLM",
    .since = kOneZero,
    .rules = kQwen3Rules,
    .describe = [](const EngineModel& model, const nlohmann::json&,
                   nlohmann::ordered_json& engine) { Describe("qwen3", model, engine); },
};

const Family kQwen3Moe = {
    .architecture = "Qwen3MoeForCausalLM",
    .engine = "Qwen3MoeForCausalLM",
    .since = kOneZero,
    .rules = kQwen3MoeRules,
    .learn = LearnQwen3Moe,
    .describe = [](const EngineModel& model, const nlohmann::json&,
                   nlohmann::ordered_json& engine) { Describe("qwen3_moe", model, engine); },
};

}  // namespace slipway::engine::tensorrt_llm
