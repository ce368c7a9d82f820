#include "worker/engine/target/sharded_state/families.h"

#include <algorithm>
#include <array>

namespace slipway::engine::sharded_state {
namespace {

// vLLM registers Qwen3-MoE's router twice, and of two names of one tensor the smaller one is stored.
constexpr std::array kFamilies = std::to_array<Family>({
    {.architecture = "LlamaForCausalLM", .attention_bias = AttentionBias::kConfigured, .mlp_bias = true},
    {.architecture = "MistralForCausalLM", .attention_bias = AttentionBias::kConfigured, .mlp_bias = true},
    {.architecture = "Qwen2ForCausalLM", .attention_bias = AttentionBias::kQkv},
    {.architecture = "Qwen3ForCausalLM", .qk_norm = true},
    {.architecture = "MixtralForCausalLM",
     .ends_on_every_stage = true,
     .experts = {"block_sparse_moe.", "intermediate_size", "w1", "w3", "w2"},
     .vllm = {"block_sparse_moe.gate.weight", "block_sparse_moe.experts.routed_experts.w13_weight",
              "block_sparse_moe.experts.routed_experts.w2_weight"},
     .sglang = {"block_sparse_moe.gate.weight", "block_sparse_moe.experts.w13_weight",
                "block_sparse_moe.experts.w2_weight"}},
    {.architecture = "Qwen3MoeForCausalLM",
     .qk_norm = true,
     .ends_on_every_stage = true,
     .ranks_within_experts = true,
     .experts = {"mlp.", "moe_intermediate_size", "gate_proj", "up_proj", "down_proj"},
     .vllm = {"mlp.experts.gate.weight", "mlp.experts.routed_experts.w13_weight",
              "mlp.experts.routed_experts.w2_weight"},
     .sglang = {"mlp.gate.weight", "mlp.experts.w13_weight", "mlp.experts.w2_weight"}},
});

}  // namespace

constexpr Engine kVllm = {
    .target = "vllm-sharded",
    .name = "vLLM",
    .word = "vllm",
    .version = "0.32",
    .experts = &Family::vllm,
    .attention_scales = true,
    .mlp_bias = true,
    .pipeline_parallel = true,
    .pads_to_ranks = false,
    .serve = "vllm serve DIRECTORY --load-format sharded_state",
    .tensor_parallel_option = "--tensor-parallel-size",
    .pipeline_parallel_option = "--pipeline-parallel-size",
};

constexpr Engine kSglang = {
    .target = "sglang-sharded",
    .name = "SGLang",
    .word = "sglang",
    .version = "0.5",
    .experts = &Family::sglang,
    .attention_scales = false,
    .mlp_bias = false,
    .pipeline_parallel = false,
    .pads_to_ranks = true,
    .serve = "python3 -m sglang.launch_server --model-path DIRECTORY --load-format sharded_state",
    .tensor_parallel_option = "--tp",
    .pipeline_parallel_option = "",
};

const Family* FindFamily(std::string_view architecture) {
  const auto* row = std::ranges::find(kFamilies, architecture, &Family::architecture);
  return row == kFamilies.end() ? nullptr : row;
}

std::string FamilyNames() {
  std::string names;
  for (const Family& family : kFamilies) {
    names += names.empty() ? "" : ", ";
    names += family.architecture;
  }
  return names;
}

}  // namespace slipway::engine::sharded_state
