// What the engines call the parameters of each family, and how they split them: the tables of sharded state.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace slipway::engine::sharded_state {

// Names of a layer's experts: after "model.layers.{i}.".
struct EngineExpertNames {
  std::string_view router;
  std::string_view gate_up;  // [experts, 2 * ffn, hidden]
  std::string_view down;     // [experts, hidden, ffn]
};

struct HuggingFaceExpertNames {
  std::string_view module;         // "block_sparse_moe."; empty: the family has none
  const char* ffn_size = nullptr;  // the field of config.json
  std::string_view gate, up, down;
};

enum class AttentionBias : std::uint8_t {
  kNone,
  kQkv,         // always, and none of the output projection
  kConfigured,  // `attention_bias`, and the output projection's with it
};

struct Family {
  std::string_view architecture;  // "LlamaForCausalLM"
  AttentionBias attention_bias = AttentionBias::kNone;
  bool mlp_bias = false;  // where config.json's `mlp_bias` says so
  bool qk_norm = false;
  bool ends_on_every_stage = false;   // embedding, last norm and output layer, whichever of them a stage computes with
  bool ranks_within_experts = false;  // more ranks than experts are an error
  HuggingFaceExpertNames experts = {};
  EngineExpertNames vllm = {};
  EngineExpertNames sglang = {};
};

// An engine in the one version whose names these are.
struct Engine {
  std::string_view target;  // "vllm-sharded"
  std::string_view name;    // "vLLM"
  std::string_view word;    // "vllm"
  std::string_view version;
  EngineExpertNames Family::*experts;
  bool attention_scales;   // four scales of a layer's attention are parameters, F32 and 1.0 unless quantized
  bool mlp_bias;           // has a place for biases of feed-forward layers
  bool pipeline_parallel;  // stages have files of their own
  bool pads_to_ranks;      // the vocabulary's padding grows where the ranks do not divide it
  std::string_view serve;  // the command; ranks are added to it
  std::string_view tensor_parallel_option;
  std::string_view pipeline_parallel_option;
};

inline constexpr std::int64_t kVocabularyPadding = 64;

extern const Engine kVllm;
extern const Engine kSglang;

// The row of that class, or null.
const Family* FindFamily(std::string_view architecture);

// "LlamaForCausalLM, MistralForCausalLM, ...".
std::string FamilyNames();

}  // namespace slipway::engine::sharded_state
