#include "worker/engine/target/tensorrt_llm/engine_config.h"

#include <string>
#include <string_view>

#include "worker/engine/dtype.h"

namespace slipway::engine::tensorrt_llm {
namespace {

using nlohmann::ordered_json;

// Experts and classes that leave it to the name have a gate where the name says so; all others are told the bare name.
std::string ActivationName(const EngineModel& model, const Family& family) {
  const bool by_name = model.experts > 0 || family.gated_name;
  return !by_name ? model.activation : model.activation == "gelu" ? "geglu" : "swiglu";
}

// Unknown keys inside are fatal, and moe_tp_size and moe_ep_size are for experts only.
ordered_json Mapping(const EngineModel& model, const Parallel& parallel) {
  ordered_json mapping = {{"world_size", parallel.tensor * parallel.pipeline},
                          {"tp_size", parallel.tensor},
                          {"pp_size", parallel.pipeline}};
  if (model.experts > 0) {
    mapping["moe_tp_size"] = parallel.expert_tensor;
    mapping["moe_ep_size"] = parallel.expert;
  }
  return mapping;
}

}  // namespace

ordered_json MakeEngineConfig(const EngineModel& model, const Family& family, const Parallel& parallel,
                              const nlohmann::json& config) {
  ordered_json engine = {
      {"architecture", family.engine},
      {"dtype", InfoOf(model.dtype).torch_name},
      {"logits_dtype", "float32"},
      {"vocab_size", model.vocabulary},
      {"max_position_embeddings", model.positions},
      {"hidden_size", model.hidden},
      {"num_hidden_layers", model.layers},
      {"num_attention_heads", model.heads},
      {"num_key_value_heads", model.key_value_heads},
      {"head_size", model.head_size},
      {"intermediate_size", model.ffn},
      {"hidden_act", ActivationName(model, family)},
      {"norm_epsilon", model.norm_epsilon},
      {"position_embedding_type", model.position_embedding},
      {"use_parallel_embedding", family.shards_embedding && parallel.tensor > 1},
      {"embedding_sharding_dim", 0},
  };
  if (model.position_embedding != "learned_absolute") {
    engine["rotary_base"] = model.rope.base;
    engine["rotary_scaling"] = model.rope.scaling;
  }
  if (model.experts > 0) {
    engine["moe"] = {{"num_experts", model.experts},
                     {"top_k", model.active_experts},
                     {"normalization_mode", model.normalizes_experts ? 1 : 0}};
  }
  if (family.describe != nullptr) {
    family.describe(model, config, engine);
  }
  engine["mapping"] = Mapping(model, parallel);
  engine["quantization"] = {{"quant_algo", nullptr}, {"kv_cache_quant_algo", nullptr}};
  return engine;
}

}  // namespace slipway::engine::tensorrt_llm
