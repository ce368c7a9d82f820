// The forms of GPT: GPT-2, StarCoder2, Nemotron, and GPT-NeoX whose layers are one after the other (Megatron's GPT with
// rotary positions): TensorRT-LLM's class GPT. It has a bias in all of its linear layers or in none.
#include <string>

#include "common/error.h"
#include "worker/engine/target/tensorrt_llm/families.h"
#include "worker/engine/target/tensorrt_llm/rules.h"

namespace slipway::engine::tensorrt_llm {
namespace {

constexpr auto kGpt2Rules = std::to_array<ModuleRule>({
    Norm("input_layernorm", "ln_1", Bias::kAlways),
    Heads(HeadOrder::kJoined, "attn.c_attn", Bias::kAttention),
    Linear("attention.dense", Split::kColumns, "attn.c_proj", kHidden, kQueryRows, Bias::kAttention),
    Norm("post_layernorm", "ln_2", Bias::kAlways),
    Linear("mlp.fc", Split::kRows, "mlp.c_fc", kFfn, kHidden, Bias::kAttention),
    Linear("mlp.proj", Split::kColumns, "mlp.c_proj", kHidden, kFfn, Bias::kAttention),
});

constexpr auto kAttentionWithBias = std::to_array<ModuleRule>({
    Norm("input_layernorm", "input_layernorm", Bias::kAlways),
    kSeparateHeads,
    Linear("attention.dense", Split::kColumns, "self_attn.o_proj", kHidden, kQueryRows, Bias::kAttention),
    Norm("post_layernorm", "post_attention_layernorm", Bias::kAlways),
});

constexpr auto kStarcoder2Rules =
    Join(kAttentionWithBias, std::to_array<ModuleRule>({
                                 Linear("mlp.fc", Split::kRows, "mlp.c_fc", kFfn, kHidden, Bias::kAttention),
                                 Linear("mlp.proj", Split::kColumns, "mlp.c_proj", kHidden, kFfn, Bias::kAttention),
                             }));

constexpr auto kNemotronRules =
    Join(kAttentionWithBias, std::to_array<ModuleRule>({
                                 Linear("mlp.fc", Split::kRows, "mlp.up_proj", kFfn, kHidden, Bias::kAttention),
                                 Linear("mlp.proj", Split::kColumns, "mlp.down_proj", kHidden, kFfn, Bias::kAttention),
                             }));

constexpr auto kGptNeoXRules = std::to_array<ModuleRule>({
    Norm("input_layernorm", "input_layernorm", Bias::kAlways),
    Heads(HeadOrder::kGrouped, "attention.query_key_value", Bias::kAttention),
    Linear("attention.dense", Split::kColumns, "attention.dense", kHidden, kQueryRows, Bias::kAttention),
    Norm("post_layernorm", "post_attention_layernorm", Bias::kAlways),
    Linear("mlp.fc", Split::kRows, "mlp.dense_h_to_4h", kFfn, kHidden, Bias::kAttention),
    Linear("mlp.proj", Split::kColumns, "mlp.dense_4h_to_h", kHidden, kFfn, Bias::kAttention),
});

absl::Status Refuse(std::string_view what) {
  return Error(Reason::kOptionUnsupported,
               std::string("TensorRT-LLM's class GPT has no ").append(what).append("; --target huggingface keeps it"));
}

absl::Status LearnGpt2(const HuggingFaceModel&, JsonFields& config, EngineModel& model) {
  model.position_embedding = "learned_absolute";
  if (config.Flag({"scale_attn_by_inverse_layer_idx"}).value_or(false) ||
      !config.Flag({"scale_attn_weights"}).value_or(true)) {
    return Refuse("attention scores scaled otherwise than by the head's size");
  }
  return config.status();
}

absl::Status LearnGptNeoX(const HuggingFaceModel&, JsonFields& config, EngineModel&) {
  if (config.Flag({"use_parallel_residual"}).value_or(true)) {
    return Refuse("attention and MLP side by side (use_parallel_residual)");
  }
  return config.status();
}

void Describe(const char* variant, const EngineModel& model, nlohmann::ordered_json& engine) {
  engine["gpt_variant"] = variant;
  engine["bias"] = model.attention_bias;
  if (model.position_embedding != "learned_absolute") {
    engine["rotary_pct"] = model.rope.fraction;
  }
}

}  // namespace

const Family kGpt2 = {
    .architecture = "GPT2LMHeadModel",
    .engine = "GPTForCausalLM",
    .prefix = "transformer.",
    .embedding = "wte",
    .position_embedding = "wpe",
    .layers = "h",
    .final_norm = "ln_f",
    .rules = kGpt2Rules,
    .layer_norm = true,
    .plain_head_size = true,
    .learn = LearnGpt2,
    .describe = [](const EngineModel& model, const nlohmann::json&,
                   nlohmann::ordered_json& engine) { Describe("gpt2", model, engine); },
};

const Family kStarcoder2 = {
    .architecture = "Starcoder2ForCausalLM",
    .engine = "GPTForCausalLM",
    .rules = kStarcoder2Rules,
    .layer_norm = true,
    .describe = [](const EngineModel& model, const nlohmann::json&,
                   nlohmann::ordered_json& engine) { Describe("starcoder2", model, engine); },
};

// Its norms compute with one plus what is stored, as Megatron's layernorm1p does; the engine's with what is stored.
const Family kNemotron = {
    .architecture = "NemotronForCausalLM",
    .engine = "GPTForCausalLM",
    .rules = kNemotronRules,
    .layer_norm = true,
    .zero_centered = true,
    .describe = [](const EngineModel& model, const nlohmann::json&,
                   nlohmann::ordered_json& engine) { Describe("nemotron", model, engine); },
};

const Family kGptNeoX = {
    .architecture = "GPTNeoXForCausalLM",
    .engine = "GPTForCausalLM",
    .prefix = "gpt_neox.",
    .embedding = "embed_in",
    .final_norm = "final_layer_norm",
    .head = "embed_out",
    .rules = kGptNeoXRules,
    .layer_norm = true,
    .plain_head_size = true,
    .learn = LearnGptNeoX,
    .describe = [](const EngineModel& model, const nlohmann::json&,
                   nlohmann::ordered_json& engine) { Describe("gpt2", model, engine); },
};

}  // namespace slipway::engine::tensorrt_llm
