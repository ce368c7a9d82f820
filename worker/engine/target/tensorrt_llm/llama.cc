// Llama, Mistral and Mixtral: TensorRT-LLM's class LLaMA.
#include "worker/engine/target/tensorrt_llm/families.h"
#include "worker/engine/target/tensorrt_llm/rules.h"

namespace slipway::engine::tensorrt_llm {
namespace {

constexpr auto kDenseRules = Join(kAttentionRules, kGatedMlpRules);

constexpr auto kMixtralRules =
    Join(kAttentionRules,
         std::to_array<ModuleRule>({
             Router("block_sparse_moe.gate"),
             UpAboveGate("mlp.fc", Split::kExpertRows, Source{"block_sparse_moe.experts.{expert}.w3"},
                         Source{"block_sparse_moe.experts.{expert}.w1"}, kExpertFfn),
             Linear("mlp.proj", Split::kExpertColumns, "block_sparse_moe.experts.{expert}.w2", kHidden, kExpertFfn),
         }));

void Describe(const EngineModel& model, const nlohmann::json&, nlohmann::ordered_json& engine) {
  engine["attn_bias"] = model.attention_bias;
  engine["mlp_bias"] = model.mlp_bias;
}

// Its experts are as wide as a dense layer would be, and their weights always add up to one.
absl::Status LearnMixtral(const HuggingFaceModel&, JsonFields&, EngineModel& model) {
  model.expert_ffn = model.ffn;
  model.normalizes_experts = true;
  return absl::OkStatus();
}

}  // namespace

const Family kLlama = {
    .architecture = "LlamaForCausalLM",
    .engine = "LlamaForCausalLM",
    .rules = kDenseRules,
    .describe = Describe,
};

const Family kMistral = {
    .architecture = "MistralForCausalLM",
    .engine = "MistralForCausalLM",
    .rules = kDenseRules,
    .describe = Describe,
};

const Family kMixtral = {
    .architecture = "MixtralForCausalLM",
    .engine = "MixtralForCausalLM",
    .rules = kMixtralRules,
    .learn = LearnMixtral,
    .describe = Describe,
};

}  // namespace slipway::engine::tensorrt_llm
