// DeepSeek-V2: TensorRT-LLM's class DeepseekV2, as version 0.17 has it. Latent attention; the first layer is dense, and
// all others are of experts.
#include <string>

#include <fmt/format.h>

#include "common/error.h"
#include "worker/engine/target/tensorrt_llm/families.h"
#include "worker/engine/target/tensorrt_llm/rules.h"

namespace slipway::engine::tensorrt_llm {
namespace {

constexpr Extent kQueryRank = [](const EngineModel& m) { return m.query_rank; };
constexpr Extent kKeyValueRank = [](const EngineModel& m) { return m.key_value_rank; };
constexpr Extent kValueRows = [](const EngineModel& m) { return m.heads * m.value_head; };
constexpr Condition kCompressesQueries = [](const EngineModel& m) { return m.query_rank > 0; };
constexpr Condition kSharesExperts = [](const EngineModel& m) { return m.shared_experts > 0; };

consteval ModuleRule In(Layers layers, ModuleRule rule, Condition when = nullptr) {
  rule.layers = layers;
  rule.when = when;
  return rule;
}

constexpr auto kRules = std::to_array<ModuleRule>({
    Norm("input_layernorm", "input_layernorm"),
    {.name = "attention.q_a_layernorm",
     .sources = {Source{"self_attn.q_a_layernorm"}},
     .rows = kQueryRank,
     .is_norm = true,
     .when = kCompressesQueries},
    {.name = "attention.kv_a_layernorm",
     .sources = {Source{"self_attn.kv_a_layernorm"}},
     .rows = kKeyValueRank,
     .is_norm = true},
    Linear("attention.dense", Split::kColumns, "self_attn.o_proj", kHidden, kValueRows),
    Norm("post_layernorm", "post_attention_layernorm"),
    In(Layers::kDense, kGatedMlpRules[0]),
    In(Layers::kDense, kGatedMlpRules[1]),
    In(Layers::kDense, kGatedMlpRules[2]),
    In(Layers::kOfExperts, kExpertRules[0]),
    In(Layers::kOfExperts, kExpertRules[1]),
    In(Layers::kOfExperts, kExpertRules[2]),
    In(Layers::kOfExperts,
       UpAboveGate("mlp.shared_expert.fc", Split::kRows, Source{"mlp.shared_experts.up_proj"},
                   Source{"mlp.shared_experts.gate_proj"}, kSharedExpertFfn),
       kSharesExperts),
    In(Layers::kOfExperts,
       Linear("mlp.shared_expert.proj", Split::kColumns, "mlp.shared_experts.down_proj", kHidden, kSharedExpertFfn),
       kSharesExperts),
});

absl::Status Unlike(std::string what) {
  return Error(Reason::kOptionUnsupported,
               fmt::format("TensorRT-LLM's class of DeepseekV2ForCausalLM {}; --target huggingface keeps it", what));
}

absl::Status LearnAttention(JsonFields& config, EngineModel& m) {
  m.query_rank = config.Size({"q_lora_rank"}).value_or(0);
  m.key_value_rank = config.Size({"kv_lora_rank"}).value_or(0);
  m.plain_head = config.Size({"qk_nope_head_dim"}).value_or(0);
  m.rotated_head = config.Size({"qk_rope_head_dim"}).value_or(0);
  m.value_head = config.Size({"v_head_dim"}).value_or(0);
  SLIPWAY_RETURN_IF_ERROR(config.status());
  for (const std::int64_t size : {m.query_rank, m.key_value_rank, m.plain_head, m.rotated_head, m.value_head}) {
    if (size > kMaximumExtent / 2) {
      return Error(Reason::kLimitExceeded, fmt::format("config.json: latent attention of size {}", size));
    }
  }
  if (m.key_value_heads != m.heads) {
    return Error(Reason::kConfigurationInvalid,
                 fmt::format("config.json: latent attention has as many heads of keys and values "
                             "(num_key_value_heads: {}) as of queries ({})",
                             m.key_value_heads, m.heads));
  }
  if (m.key_value_rank == 0 || m.plain_head == 0 || m.rotated_head == 0 || m.value_head == 0) {
    return Error(Reason::kConfigurationInvalid,
                 "config.json lacks one of kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim and v_head_dim");
  }
  if (m.rope.scaling.is_null()) {  // the class cannot do without: one that changes nothing
    m.rope.scaling = {{"beta_fast", 32.0}, {"beta_slow", 1.0},      {"factor", 1.0},
                      {"mscale", 1.0},     {"mscale_all_dim", 1.0}, {"original_max_position_embeddings", m.positions},
                      {"type", "yarn"}};
  }
  return absl::OkStatus();
}

absl::Status LearnExperts(JsonFields& config, EngineModel& m) {
  m.expert_ffn = config.Size({"moe_intermediate_size"}).value_or(0);
  m.shared_experts = config.Count({"n_shared_experts"}).value_or(0);
  m.dense_layers = config.Count({"first_k_dense_replace"}).value_or(0);
  m.normalizes_experts = config.Flag({"norm_topk_prob"}).value_or(false) && m.active_experts > 1;
  const auto groups = config.Size({"n_group"});
  const auto active_groups = config.Size({"topk_group"});
  m.expert_groups = groups.value_or(1);
  m.active_groups = active_groups.value_or(1);
  m.expert_scale = config.Number({"routed_scaling_factor"}).value_or(1);
  const std::string method = config.Text({"topk_method"}).value_or("greedy");
  const std::string score = config.Text({"scoring_func"}).value_or("softmax");
  const std::int64_t every = config.Size({"moe_layer_freq"}).value_or(1);
  SLIPWAY_RETURN_IF_ERROR(config.status());
  m.limits_groups = method == "group_limited_greedy";
  if (m.shared_experts > m.experts) {
    return Error(Reason::kConfigurationInvalid, fmt::format("config.json: {} shared experts", m.shared_experts));
  }
  m.shared_expert_ffn = m.shared_experts * m.expert_ffn;
  if (m.dense_layers != 1 || every != 1) {
    return Unlike("has one dense layer and experts in all others (first_k_dense_replace, moe_layer_freq)");
  }
  if ((!m.limits_groups && method != "greedy") || score != "softmax") {
    return Unlike(fmt::format("chooses experts by softmax, greedily or within groups, not by {} and {}",
                              score.substr(0, 100), method.substr(0, 100)));
  }
  if (!m.limits_groups && m.expert_scale != 1) {
    return Unlike("scales experts' weights (routed_scaling_factor) only where groups are limited");
  }
  if (m.limits_groups &&
      (!groups || !active_groups || m.experts % m.expert_groups != 0 || m.active_groups > m.expert_groups ||
       m.active_experts > m.experts / m.expert_groups * m.active_groups)) {
    return Error(Reason::kConfigurationInvalid,
                 fmt::format("config.json: {} experts a token (num_experts_per_tok) of {} (topk_group) of {} groups "
                             "(n_group) of {} experts (n_routed_experts)",
                             m.active_experts, m.active_groups, m.expert_groups, m.experts));
  }
  if (m.expert_scale <= 0) {
    return Error(Reason::kConfigurationInvalid,
                 fmt::format("config.json: routed_scaling_factor is {}", m.expert_scale));
  }
  return absl::OkStatus();
}

absl::Status Learn(const HuggingFaceModel&, JsonFields& config, EngineModel& model) {
  SLIPWAY_RETURN_IF_ERROR(LearnAttention(config, model));
  return LearnExperts(config, model);
}

// How the weights of the chosen experts are normalized: TensorRT-LLM's numbers.
int NormalizationMode(const EngineModel& m) {
  constexpr int kNone = 0, kRenormalized = 1, kLimited = 3, kLimitedRenormalized = 4;
  return m.limits_groups ? (m.normalizes_experts ? kLimitedRenormalized : kLimited)
                         : (m.normalizes_experts ? kRenormalized : kNone);
}

void Describe(const EngineModel& m, const nlohmann::json&, nlohmann::ordered_json& engine) {
  engine.erase("head_size");  // there are several
  const int mode = NormalizationMode(m);
  engine["q_lora_rank"] = m.query_rank > 0 ? nlohmann::ordered_json(m.query_rank) : nlohmann::ordered_json(nullptr);
  engine["kv_lora_rank"] = m.key_value_rank;
  engine["qk_nope_head_dim"] = m.plain_head;
  engine["qk_rope_head_dim"] = m.rotated_head;
  engine["v_head_dim"] = m.value_head;
  engine["moe_num_experts"] = m.experts;
  engine["moe_inter_size"] = m.expert_ffn;
  engine["moe_num_shared_experts"] = m.shared_experts;
  engine["moe_top_k"] = m.active_experts;
  engine["moe_renorm_mode"] = mode;
  engine["moe_n_group"] = m.expert_groups;
  engine["moe_topk_group"] = m.active_groups;
  engine["moe_routed_scaling_factor"] = m.expert_scale;
  nlohmann::ordered_json& experts = engine["moe"];
  experts["normalization_mode"] = mode;
  experts["shared_expert_intermediate_size"] = m.shared_expert_ffn;
  experts["device_limited_n_group"] = m.expert_groups;
  experts["device_limited_topk_group"] = m.active_groups;
  experts["device_limited_routed_scaling_factor"] = m.expert_scale;
}

}  // namespace

const Family kDeepseekV2 = {
    .architecture = "DeepseekV2ForCausalLM",
    .engine = "DeepseekV2ForCausalLM",
    .rules = kRules,
    .latent_attention = true,
    .is_quantized = false,
    .only = Version{0, 17},
    .learn = Learn,
    .describe = Describe,
};

}  // namespace slipway::engine::tensorrt_llm
