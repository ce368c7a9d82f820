// Gemma 1, 2 and 3 (text): norms are stored as one plus what Hugging Face stores, embeddings unscaled.
#include <algorithm>
#include <string>

#include "common/error.h"
#include "worker/engine/target/tensorrt_llm/families.h"
#include "worker/engine/target/tensorrt_llm/rules.h"

namespace slipway::engine::tensorrt_llm {
namespace {

constexpr auto kFeedNormRules = std::to_array<ModuleRule>({
    Norm("pre_feedforward_layernorm", "pre_feedforward_layernorm"),
    Norm("post_feedforward_layernorm", "post_feedforward_layernorm"),
});

constexpr auto kGemmaRules = Join(kAttentionRules, kGatedMlpRules);
constexpr auto kGemma2Rules = Join(kAttentionRules, kFeedNormRules, kGatedMlpRules);
constexpr auto kGemma3Rules = Join(kAttentionRules, kFeedNormRules, kHeadNormRules, kGatedMlpRules);

void Describe(const EngineModel& model, const nlohmann::json&, nlohmann::ordered_json& engine) {
  engine["attn_bias"] = model.attention_bias;
  engine["mlp_bias"] = model.mlp_bias;
}

nlohmann::json FieldOf(const nlohmann::json& config, const char* name) {
  const auto found = config.find(name);
  return found == config.end() ? nlohmann::json(nullptr) : *found;
}

void DescribeGemma2(const EngineModel& model, const nlohmann::json& config, nlohmann::ordered_json& engine) {
  Describe(model, config, engine);
  for (const char* name : {"query_pre_attn_scalar", "final_logit_softcapping", "attn_logit_softcapping"}) {
    engine[name] = FieldOf(config, name);
  }
}

void DescribeGemma3(const EngineModel& model, const nlohmann::json& config, nlohmann::ordered_json& engine) {
  Describe(model, config, engine);
  engine["query_pre_attn_scalar"] = FieldOf(config, "query_pre_attn_scalar");
  engine["final_logit_softcapping"] = FieldOf(config, "final_logit_softcapping");
  // Versions differ in which of the two names they read.
  engine["sliding_window_pattern"] = model.full_attention_period;
  engine["_sliding_window_pattern"] = model.full_attention_period;
  engine["rope_local_base_freq"] = *model.rope.local_base;
  engine["sliding_window"] = model.window ? nlohmann::json(*model.window) : nlohmann::json(nullptr);
}

absl::Status CheckNumber(JsonFields& config, const char* name) {
  const bool is_there = config.Number({name}).has_value();
  SLIPWAY_RETURN_IF_ERROR(config.status());
  return is_there ? absl::OkStatus() : Error(Reason::kConfigurationInvalid, std::string("config.json lacks ") + name);
}

absl::Status LearnGemma2(const HuggingFaceModel&, JsonFields& config, EngineModel&) {
  config.Number({"final_logit_softcapping"});
  config.Number({"attn_logit_softcapping"});
  return CheckNumber(config, "query_pre_attn_scalar");
}

// layer_types, where it is said, has to be what the pattern makes.
absl::Status LearnGemma3(const HuggingFaceModel& source, JsonFields& config, EngineModel& model) {
  constexpr double kLocalBase = 10000.0;
  constexpr std::int64_t kUsualPeriod = 6;
  model.rope.local_base = model.rope.local_base.value_or(kLocalBase);
  model.full_attention_period =
      config.Size({"_sliding_window_pattern", "sliding_window_pattern"}).value_or(kUsualPeriod);
  SLIPWAY_RETURN_IF_ERROR(config.status());
  const nlohmann::json* types = config.Find({"layer_types"});
  bool fits = types == nullptr || types->is_array();
  for (std::size_t layer = 0; fits && types != nullptr && layer < types->size(); ++layer) {
    const bool is_full = (static_cast<std::int64_t>(layer) + 1) % model.full_attention_period == 0;
    fits = (*types)[layer] == (is_full ? "full_attention" : "sliding_attention");
  }
  if (!fits) {
    return Error(Reason::kOptionUnsupported,
                 "TensorRT-LLM's Gemma 3 sees everything in every n-th layer only, which layer_types contradicts; "
                 "--target huggingface keeps it");
  }
  return LearnGemma2(source, config, model);
}

}  // namespace

const Family kGemma = {
    .architecture = "GemmaForCausalLM",
    .engine = "GemmaForCausalLM",
    .rules = kGemmaRules,
    .zero_centered = true,
    .shards_embedding = true,
    .describe = Describe,
};

const Family kGemma2 = {
    .architecture = "Gemma2ForCausalLM",
    .engine = "Gemma2ForCausalLM",
    .since = {0, 13},
    .rules = kGemma2Rules,
    .zero_centered = true,
    .shards_embedding = true,
    .learn = LearnGemma2,
    .describe = DescribeGemma2,
};

const Family kGemma3 = {
    .architecture = "Gemma3ForCausalLM",
    .engine = "Gemma3ForCausalLM",
    .since = kOneZero,
    .rules = kGemma3Rules,
    .zero_centered = true,
    .shards_embedding = true,
    .has_window = true,
    .learn = LearnGemma3,
    .describe = DescribeGemma3,
};

}  // namespace slipway::engine::tensorrt_llm
