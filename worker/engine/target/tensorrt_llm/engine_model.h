// The model in the words of TensorRT-LLM's classes: sizes and switches, read from Hugging Face's config.json and from
// which tensors there are.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "worker/engine/dtype.h"
#include "worker/engine/target/rank_layout.h"
#include "worker/engine/target/tensorrt_llm/rope.h"

namespace slipway::engine::tensorrt_llm {

struct Family;

// Sizes are of the whole model. All are positive and so small that products of two of them cannot overflow, unless it
// says otherwise.
struct EngineModel {
  std::string prefix;  // "model."; what Hugging Face's names but the head's begin with
  std::int64_t hidden = 0;
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t key_value_heads = 0;  // divides heads
  std::int64_t head_size = 0;
  std::int64_t ffn = 0;
  std::int64_t vocabulary = 0;
  std::int64_t positions = 0;
  std::int64_t experts = 0;  // 0: a dense model
  std::int64_t active_experts = 0;
  std::int64_t expert_ffn = 0;         // with experts
  std::int64_t shared_expert_ffn = 0;  // 0: no shared expert
  bool normalizes_experts = false;     // the weights of the chosen experts add up to 1
  bool attention_bias = false;
  bool mlp_bias = false;
  bool tied = false;                 // there is no output matrix but the embeddings
  bool has_head_of_its_own = false;  // though config.json says that it is tied
  double norm_epsilon = 0;
  std::string activation;  // the engine's name of it, without gate: "silu", "gelu", "squared-relu"
  std::string position_embedding = "rope_gpt_neox";
  Rope rope;
  std::optional<std::int64_t> window;  // of attention, if config.json has one that is switched on
  DType dtype = DType::kBF16;          // of all tensors but routers

  // DeepSeek-V2's; 0 of models without latent attention, and where queries are not compressed.
  std::int64_t query_rank = 0;
  std::int64_t key_value_rank = 0;
  std::int64_t plain_head = 0;    // of queries and keys: what is not rotated,
  std::int64_t rotated_head = 0;  // and what is
  std::int64_t value_head = 0;
  std::int64_t dense_layers = 0;  // before those of experts
  std::int64_t shared_experts = 0;
  std::int64_t expert_groups = 1;  // of which a token sees
  std::int64_t active_groups = 1;  // so many
  bool limits_groups = false;      // so it does
  double expert_scale = 1;         // of the weights of the chosen experts

  // Gemma 3's: of that many layers, the last sees everything and the others a window.
  std::int64_t full_attention_period = 1;

  // Falcon's
  bool parallel_attention = false;
  bool new_decoder_architecture = false;
  bool two_parallel_norms = false;
};

// CONFIGURATION_INVALID, TENSOR_MISSING (the embeddings), OPTION_UNSUPPORTED; names the field or tensor.
absl::StatusOr<EngineModel> LearnEngineModel(const HuggingFaceModel& source, const nlohmann::json& config,
                                             const Family& family);

}  // namespace slipway::engine::tensorrt_llm
