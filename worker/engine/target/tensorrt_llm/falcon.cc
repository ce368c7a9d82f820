// Falcon: attention and MLP side by side behind one norm (7B, 11B) or a norm each (40B, 180B), or one after the other
// (RW); query_key_value lies group by group.
#include "worker/engine/target/tensorrt_llm/families.h"
#include "worker/engine/target/tensorrt_llm/rules.h"

namespace slipway::engine::tensorrt_llm {
namespace {

constexpr Condition kTwoNorms = [](const EngineModel& m) { return m.two_parallel_norms; };
constexpr Condition kOneNorm = [](const EngineModel& m) { return !m.two_parallel_norms; };
constexpr Condition kOneAfterTheOther = [](const EngineModel& m) {
  return !m.parallel_attention && !m.new_decoder_architecture;
};

constexpr auto kRules = std::to_array<ModuleRule>({
    Norm("input_layernorm", "ln_attn", Bias::kAlways, kTwoNorms),
    Norm("mlp_layernorm", "ln_mlp", Bias::kAlways, kTwoNorms),
    Norm("input_layernorm", "input_layernorm", Bias::kAlways, kOneNorm),
    Norm("post_layernorm", "post_attention_layernorm", Bias::kAlways, kOneAfterTheOther),
    Heads(HeadOrder::kGrouped, "self_attention.query_key_value", Bias::kAttention),
    Linear("attention.dense", Split::kColumns, "self_attention.dense", kHidden, kQueryRows, Bias::kAttention),
    Linear("mlp.fc", Split::kRows, "mlp.dense_h_to_4h", kFfn, kHidden, Bias::kAttention),
    Linear("mlp.proj", Split::kColumns, "mlp.dense_4h_to_h", kHidden, kFfn, Bias::kAttention),
});

// Before the new architecture there was one head of keys and values, or as many as of queries, whatever num_kv_heads
// says.
absl::Status Learn(const HuggingFaceModel& source, JsonFields& config, EngineModel& model) {
  model.new_decoder_architecture = config.Flag({"new_decoder_architecture"}).value_or(false);
  model.parallel_attention = config.Flag({"parallel_attn"}).value_or(true);
  constexpr std::int64_t kPositions = 2048;  // where config.json does not say it
  model.positions = model.positions > 0 ? model.positions : kPositions;
  model.two_parallel_norms = source.tensors.contains(model.prefix + "h.0.ln_attn.weight");
  if (!model.new_decoder_architecture) {
    model.key_value_heads = config.Flag({"multi_query"}).value_or(true) ? 1 : model.heads;
  }
  if (config.Flag({"alibi"}).value_or(false)) {
    model.position_embedding = "alibi_with_scale";
  }
  return config.status();
}

void Describe(const EngineModel& model, const nlohmann::json&, nlohmann::ordered_json& engine) {
  engine["bias"] = model.attention_bias;
  engine["parallel_attention"] = model.parallel_attention;
  engine["new_decoder_architecture"] = model.new_decoder_architecture;
  if (model.new_decoder_architecture) {
    engine["num_ln_in_parallel_attn"] = model.two_parallel_norms ? 2 : 1;
  }
}

}  // namespace

const Family kFalcon = {
    .architecture = "FalconForCausalLM",
    .engine = "FalconForCausalLM",
    .prefix = "transformer.",
    .embedding = "word_embeddings",
    .layers = "h",
    .final_norm = "ln_f",
    .rules = kRules,
    .layer_norm = true,
    .plain_head_size = true,
    .learn = Learn,
    .describe = Describe,
};

}  // namespace slipway::engine::tensorrt_llm
