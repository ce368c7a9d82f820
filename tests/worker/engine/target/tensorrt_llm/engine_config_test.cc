// What the engine's config.json says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "tests/worker/engine/target/tensorrt_llm/models.h"
#include "worker/engine/target/tensorrt_llm/layout.h"

namespace slipway::engine {
namespace {

using nlohmann::json;
using test::Llama;
using test::Mixtral;
using test::Ranks;

json ConfigOf(const HuggingFaceModel& model, const RankRequest& request = {}) {
  const absl::StatusOr<RankLayout> layout = TensorRtLlmLayout(model, request);
  EXPECT_TRUE(layout.ok()) << Describe(layout.status());
  if (!layout.ok() || layout->texts.size() != 1 || layout->texts[0].path != "config.json") {
    ADD_FAILURE() << "no config.json";
    return json::object();
  }
  return json::parse(layout->texts[0].content);
}

// As the format's description has it, key by key.
TEST(TensorRtLlmConfig, SaysTheWorkedExample) {
  EXPECT_EQ(ConfigOf(Llama(), Ranks(2, 2)),
            json::parse(
                R"({"architecture":"LlamaForCausalLM","dtype":"bfloat16","logits_dtype":"float32","vocab_size":256,
              "max_position_embeddings":2048,"hidden_size":64,"num_hidden_layers":4,"num_attention_heads":4,
              "num_key_value_heads":2,"head_size":16,"intermediate_size":128,"hidden_act":"silu","norm_epsilon":1e-05,
              "position_embedding_type":"rope_gpt_neox","rotary_base":10000.0,"rotary_scaling":null,"attn_bias":false,
              "mlp_bias":false,"use_parallel_embedding":false,"embedding_sharding_dim":0,
              "mapping":{"world_size":4,"tp_size":2,"pp_size":2},
              "quantization":{"quant_algo":null,"kv_cache_quant_algo":null}})"));
}

TEST(TensorRtLlmConfig, ExpertsAreUnderMoeWithAGatedActivationAndTheirMapping) {
  const json config = ConfigOf(Mixtral(), Ranks(4, 1, 2));
  EXPECT_EQ(config["moe"], (json{{"num_experts", 4}, {"top_k", 2}, {"normalization_mode", 1}}));
  EXPECT_EQ(config["hidden_act"], "swiglu");
  EXPECT_EQ(config["mapping"],
            (json{{"world_size", 4}, {"tp_size", 4}, {"pp_size", 1}, {"moe_tp_size", 2}, {"moe_ep_size", 2}}));
}

// The keys that version 0.17 reads, as the format's description lists them.
TEST(TensorRtLlmConfig, DeepSeekSaysItsSizesAndHowExpertsAreChosen) {
  HuggingFaceModel model = test::DeepseekV2();
  model.config.update({{"topk_method", "group_limited_greedy"},
                       {"n_group", 2},
                       {"topk_group", 1},
                       {"routed_scaling_factor", 16.0},
                       {"rope_scaling",
                        {{"type", "yarn"},
                         {"factor", 40},
                         {"beta_fast", 32},
                         {"beta_slow", 1},
                         {"mscale", 0.707},
                         {"mscale_all_dim", 0.707},
                         {"original_max_position_embeddings", 4096}}}});
  const json config = ConfigOf(model, Ranks(2, 1, 2));
  const json expected = json::parse(R"({"architecture":"DeepseekV2ForCausalLM","q_lora_rank":14,"kv_lora_rank":10,
      "qk_nope_head_dim":6,"qk_rope_head_dim":4,"v_head_dim":8,"moe_num_experts":4,"moe_inter_size":16,
      "moe_num_shared_experts":2,"moe_top_k":2,"moe_renorm_mode":3,"moe_n_group":2,"moe_topk_group":1,
      "moe_routed_scaling_factor":16.0,"hidden_act":"swiglu","num_key_value_heads":4,
      "mapping":{"world_size":2,"tp_size":2,"pp_size":1,"moe_tp_size":1,"moe_ep_size":2},
      "rotary_scaling":{"type":"yarn","factor":40,"beta_fast":32,"beta_slow":1,"mscale":0.707,"mscale_all_dim":0.707,
                        "original_max_position_embeddings":4096}})");
  for (const auto& [key, value] : expected.items()) {
    EXPECT_EQ(config.value(key, json()), value) << key;
  }
  EXPECT_FALSE(config.contains("head_size"));
  model.config["norm_topk_prob"] = true;
  EXPECT_EQ(ConfigOf(model)["moe_renorm_mode"], 4);
}

TEST(TensorRtLlmConfig, DeepSeekWithoutYarnGetsOneThatChangesNothing) {
  const json config = ConfigOf(test::DeepseekV2(0));
  EXPECT_EQ(config["rotary_scaling"]["factor"], 1);
  EXPECT_EQ(config["rotary_scaling"]["original_max_position_embeddings"], 2048);
  EXPECT_TRUE(config["q_lora_rank"].is_null());
  EXPECT_EQ(config["moe_renorm_mode"], 0);
}

TEST(TensorRtLlmConfig, RopeIsReadFromBothSpellings) {
  const json scaling = {{"rope_type", "llama3"},
                        {"factor", 8.0},
                        {"low_freq_factor", 1.0},
                        {"high_freq_factor", 4.0},
                        {"original_max_position_embeddings", 8192}};
  json expected = scaling;
  expected["type"] = "llama3";
  HuggingFaceModel old_spelling = Llama(1);
  old_spelling.config["rope_theta"] = 500000.0;
  old_spelling.config["rope_scaling"] = scaling;
  HuggingFaceModel new_spelling = Llama(1);
  new_spelling.config.erase("rope_theta");
  new_spelling.config["rope_parameters"] = scaling;
  new_spelling.config["rope_parameters"]["rope_theta"] = 500000.0;
  for (const HuggingFaceModel& model : {old_spelling, new_spelling}) {
    EXPECT_EQ(ConfigOf(model)["rotary_base"], 500000.0);
    EXPECT_EQ(ConfigOf(model)["rotary_scaling"], expected);
  }
}

TEST(TensorRtLlmConfig, GemmaShardsItsEmbeddingsOverRanks) {
  HuggingFaceModel gemma = Llama(1);
  gemma.architecture = "GemmaForCausalLM";
  gemma.config["hidden_act"] = "gelu_pytorch_tanh";
  EXPECT_EQ(ConfigOf(gemma)["use_parallel_embedding"], false);
  EXPECT_EQ(ConfigOf(gemma, Ranks(2))["use_parallel_embedding"], true);
  EXPECT_EQ(ConfigOf(gemma)["hidden_act"], "gelu");
}

TEST(TensorRtLlmConfig, Phi3SaysLongRopeAndTheGateInItsActivation) {
  HuggingFaceModel phi3{.architecture = "Phi3ForCausalLM", .config = Llama(1).config, .tensors = {}};
  for (const auto& [name, tensor] : Llama(1).tensors) {
    if (name.find("_proj") == std::string::npos || name.find("o_proj") != std::string::npos ||
        name.find("down_proj") != std::string::npos) {
      phi3.tensors[name] = tensor;
    }
  }
  phi3.tensors["model.layers.0.self_attn.qkv_proj.weight"] = {{128, 64}, DType::kBF16};
  phi3.tensors["model.layers.0.mlp.gate_up_proj.weight"] = {{256, 64}, DType::kBF16};
  json config = ConfigOf(phi3);
  EXPECT_EQ(config["hidden_act"], "swiglu");
  EXPECT_EQ(config["position_embedding_type"], "rope_gpt_neox");
  EXPECT_EQ(config["rotary_pct"], 1.0);
  EXPECT_FALSE(config.contains("longrope_scaling_short_factors"));

  phi3.config["original_max_position_embeddings"] = 1024;
  phi3.config["partial_rotary_factor"] = 0.75;
  phi3.config["rope_scaling"] = {{"type", "longrope"}, {"short_factor", {1.0, 1.5}}, {"long_factor", {2.0, 2.5}}};
  config = ConfigOf(phi3);
  EXPECT_EQ(config["position_embedding_type"], "long_rope");
  EXPECT_EQ(config["original_max_position_embeddings"], 1024);
  EXPECT_EQ(config["longrope_scaling_short_factors"], (json{1.0, 1.5}));
  EXPECT_EQ(config["longrope_scaling_long_factors"], (json{2.0, 2.5}));
  EXPECT_EQ(config["rotary_scaling"], nullptr);
  EXPECT_EQ(config["rotary_pct"], 0.75);
}

TEST(TensorRtLlmConfig, Gemma3SaysWhichLayersSeeEverythingAndNeedsNoWarningOfItsWindow) {
  HuggingFaceModel gemma = Llama(4);
  gemma.architecture = "Gemma3ForCausalLM";
  gemma.config["hidden_act"] = "gelu_pytorch_tanh";
  gemma.config["query_pre_attn_scalar"] = 16;
  gemma.config["sliding_window"] = 512;
  gemma.config["_sliding_window_pattern"] = 2;
  gemma.config["layer_types"] = {"sliding_attention", "full_attention", "sliding_attention", "full_attention"};
  for (int layer = 0; layer < 4; ++layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    for (const char* norm : {"pre_feedforward_layernorm", "post_feedforward_layernorm"}) {
      gemma.tensors[prefix + norm + ".weight"] = {{64}, DType::kBF16};
    }
    for (const char* norm : {"self_attn.q_norm", "self_attn.k_norm"}) {
      gemma.tensors[prefix + norm + ".weight"] = {{16}, DType::kBF16};
    }
  }
  const json config = ConfigOf(gemma);
  EXPECT_EQ(config["sliding_window"], 512);
  EXPECT_EQ(config["sliding_window_pattern"], 2);
  EXPECT_EQ(config["_sliding_window_pattern"], 2);
  EXPECT_THAT(TensorRtLlmLayout(gemma, Ranks(1, 1, 1, "1.0"))->warnings, testing::IsEmpty());
  gemma.config["layer_types"][0] = "full_attention";
  EXPECT_EQ(ReasonOf(TensorRtLlmLayout(gemma, {}).status()), Reason::kOptionUnsupported);
}

TEST(TensorRtLlmConfig, AWindowThatIsSwitchedOnIsWarnedOf) {
  HuggingFaceModel model = Llama(1);
  model.architecture = "MistralForCausalLM";
  model.config["sliding_window"] = 512;
  EXPECT_EQ(TensorRtLlmLayout(model, {})->warnings.size(), 1);
  model.config["use_sliding_window"] = false;
  EXPECT_TRUE(TensorRtLlmLayout(model, {})->warnings.empty());
  model.config["use_sliding_window"] = true;
  model.config["sliding_window"] = 0;
  EXPECT_TRUE(TensorRtLlmLayout(model, {})->warnings.empty());
}

}  // namespace
}  // namespace slipway::engine
