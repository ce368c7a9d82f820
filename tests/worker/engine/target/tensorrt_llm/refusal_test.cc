// What TensorRT-LLM could not load is refused before anything is written, by name and with what would work.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "common/error.h"
#include "tests/worker/engine/target/tensorrt_llm/models.h"
#include "worker/engine/target/tensorrt_llm/layout.h"

namespace slipway::engine {
namespace {

using test::Llama;
using test::Mixtral;
using test::Ranks;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

struct Answer {
  Reason reason;
  std::string text;
};

Answer Refused(const HuggingFaceModel& model, const RankRequest& request = {}) {
  const absl::Status status = TensorRtLlmLayout(model, request).status();
  return {ReasonOf(status), Describe(status)};
}

void ExpectUnsupported(const Answer& answer, const ::testing::Matcher<const std::string&>& matcher) {
  EXPECT_EQ(answer.reason, Reason::kOptionUnsupported) << answer.text;
  EXPECT_THAT(answer.text, matcher);
}

TEST(TensorRtLlmRefusal, RanksThatDoNotDivideTheModel) {
  ExpectUnsupported(Refused(Llama(), Ranks(3)), AllOf(HasSubstr("--tensor-parallel 3"), HasSubstr("4 attention heads"),
                                                      HasSubstr("work: 1, 2, 4")));
  ExpectUnsupported(Refused(Llama(), Ranks(8)), HasSubstr("4 attention heads"));
  ExpectUnsupported(Refused(Llama(), Ranks(1, 3)),
                    AllOf(HasSubstr("--pipeline-parallel 3"), HasSubstr("4 layers"), HasSubstr("1, 2, 4"),
                          HasSubstr("--tensorrt-llm-version 1.0")));
  ExpectUnsupported(Refused(Llama(), Ranks(1, 5, 1, "1.0")), HasSubstr("4 layers"));
  HuggingFaceModel odd = Llama(1);
  odd.config["intermediate_size"] = 126;
  odd.tensors["model.layers.0.mlp.gate_proj.weight"].shape = {126, 64};
  odd.tensors["model.layers.0.mlp.up_proj.weight"].shape = {126, 64};
  odd.tensors["model.layers.0.mlp.down_proj.weight"].shape = {64, 126};
  ExpectUnsupported(Refused(odd, Ranks(4)), AllOf(HasSubstr("126 rows of mlp.gate_proj"), HasSubstr("work: 1, 2")));
}

TEST(TensorRtLlmRefusal, HeadsOfKeysThatNeitherDivideNorAreDivided) {
  HuggingFaceModel model = Llama(1);
  model.config["num_attention_heads"] = 12;
  model.config["num_key_value_heads"] = 6;
  ExpectUnsupported(Refused(model, Ranks(4)), HasSubstr("6 heads of keys and values"));
}

TEST(TensorRtLlmRefusal, WhatTheClassOfDeepSeekDoesOtherwise) {
  ASSERT_TRUE(TensorRtLlmLayout(test::DeepseekV2(), {}).ok());
  ExpectUnsupported(Refused(test::DeepseekV2(), Ranks(1, 1, 1, "1.0")), HasSubstr("--tensorrt-llm-version 0.17"));
  ExpectUnsupported(Refused(test::DeepseekV2(), Ranks(1, 1, 1, "0.16")), HasSubstr("--tensorrt-llm-version 0.17"));
  // Advice that would be refused in turn is none.
  ExpectUnsupported(Refused(test::DeepseekV2(), Ranks(1, 3)),
                    AllOf(HasSubstr("what would work: 1, 2"), Not(HasSubstr("1.0"))));
  RankRequest quantized = Ranks(1);
  quantized.quantized = true;
  ExpectUnsupported(Refused(test::DeepseekV2(), quantized), HasSubstr("--target huggingface"));
  ExpectUnsupported(Refused(test::DeepseekV2(), Ranks(3)), HasSubstr("4 attention heads"));
  const auto with = [](const char* key, const nlohmann::ordered_json& value) {
    HuggingFaceModel model = test::DeepseekV2();
    model.config[key] = value;
    return model;
  };
  ExpectUnsupported(Refused(with("first_k_dense_replace", 0)), HasSubstr("one dense layer"));
  ExpectUnsupported(Refused(with("moe_layer_freq", 2)), HasSubstr("one dense layer"));
  ExpectUnsupported(Refused(with("topk_method", "noaux_tc")), HasSubstr("noaux_tc"));
  ExpectUnsupported(Refused(with("scoring_func", "sigmoid")), HasSubstr("sigmoid"));
  ExpectUnsupported(Refused(with("routed_scaling_factor", 16)), HasSubstr("routed_scaling_factor"));
  ExpectUnsupported(Refused(with("rope_scaling", {{"type", "linear"}, {"factor", 2}})),
                    HasSubstr("yarn, not by linear"));
  ExpectUnsupported(
      Refused(
          with("rope_scaling",
               {{"type", "yarn"}, {"factor", 2}, {"attention_factor", 3}, {"original_max_position_embeddings", 64}})),
      HasSubstr("attention_factor"));
  for (const auto& [key, value] : {std::pair{"topk_method", nlohmann::ordered_json("group_limited_greedy")},
                                   {"num_key_value_heads", 2},
                                   {"kv_lora_rank", nullptr},
                                   {"v_head_dim", 0},
                                   {"n_shared_experts", 5},
                                   {"rope_scaling", {{"type", "yarn"}, {"factor", 2}}}}) {
    EXPECT_EQ(Refused(with(key, value)).reason, Reason::kConfigurationInvalid) << key;
  }
}

TEST(TensorRtLlmRefusal, VersionsWithoutEnginesOfSuchCheckpoints) {
  for (const char* version : {"0.20", "v0.20.0", "1.0rc1", "1.0.0rc1", "1.2.0+cu13"}) {
    EXPECT_TRUE(TensorRtLlmLayout(Llama(), Ranks(1, 1, 1, version)).ok()) << version;
  }
  for (const char* version : {"0.10", "1.10", "1.3", "2", "v", "rc1"}) {
    ExpectUnsupported(Refused(Llama(), Ranks(1, 1, 1, version)), HasSubstr("--target huggingface"));
  }
}

TEST(TensorRtLlmRefusal, WhatAnEngineWouldComputeOtherwise) {
  HuggingFaceModel partial = Llama(1);
  partial.config["partial_rotary_factor"] = 0.5;
  ExpectUnsupported(Refused(partial), AllOf(HasSubstr("rotates whole heads"), HasSubstr("--target huggingface")));
  for (const char* activation : {"relu", "relu2"}) {
    HuggingFaceModel gated = Mixtral();
    gated.config["hidden_act"] = activation;
    ExpectUnsupported(Refused(gated), HasSubstr(activation));
  }
  for (const char* field : {"rope_parameters", "rope_scaling"}) {
    HuggingFaceModel mistyped = Llama(1);
    mistyped.config[field] = "yarn";
    EXPECT_EQ(Refused(mistyped).reason, Reason::kConfigurationInvalid) << field;
    mistyped.config[field] = nullptr;
    EXPECT_TRUE(TensorRtLlmLayout(mistyped, {}).ok()) << field;
  }
}

TEST(TensorRtLlmRefusal, GroupsOfExpertsThatDoNotDivide) {
  ExpectUnsupported(Refused(Llama(), Ranks(2, 1, 2)), HasSubstr("no experts"));
  ExpectUnsupported(Refused(Mixtral(), Ranks(2, 1, 4)),
                    AllOf(HasSubstr("--expert-parallel 4"), HasSubstr("work: 1, 2")));
}

TEST(TensorRtLlmRefusal, NumbersOfRanksThatNobodyHas) {
  for (const std::int64_t ranks :
       {std::int64_t{0}, std::int64_t{-1}, std::int64_t{1025}, std::numeric_limits<std::int64_t>::max(),
        std::numeric_limits<std::int64_t>::min()}) {
    ExpectUnsupported(Refused(Llama(), Ranks(ranks)), HasSubstr("ranks"));
    ExpectUnsupported(Refused(Llama(), Ranks(1, ranks)), HasSubstr("ranks"));
    ExpectUnsupported(Refused(Llama(), Ranks(1, 1, ranks)), HasSubstr("ranks"));
  }
  ExpectUnsupported(Refused(Llama(), Ranks(1024, 2)), HasSubstr("1024 x 2"));
}

TEST(TensorRtLlmRefusal, FamiliesThatEnginesLack) {
  for (const char* architecture : {"DeepseekV3ForCausalLM", "GptOssForCausalLM", "NemotronHForCausalLM",
                                   "Qwen3NextForCausalLM", "OlmoeForCausalLM", ""}) {
    HuggingFaceModel model = Llama();
    model.architecture = architecture;
    ExpectUnsupported(Refused(model),
                      AllOf(HasSubstr(architecture), HasSubstr("--target huggingface"), HasSubstr("LlamaForCausalLM")));
  }
}

TEST(TensorRtLlmRefusal, VersionsThatDoNotReadTheFormatOrTheFamily) {
  for (const char* version : {"0.10", "1.3", "1", "0.1", "0.170", "x"}) {
    ExpectUnsupported(Refused(Llama(), Ranks(1, 1, 1, version)),
                      AllOf(HasSubstr("0.11, 0.12"), HasSubstr("1.2;"), HasSubstr("--target huggingface")));
  }
  for (const char* version : {"", "0.11", "0.17.0", "1.2.0rc3"}) {
    EXPECT_TRUE(TensorRtLlmLayout(Llama(), Ranks(1, 1, 1, version)).ok()) << version;
  }
  HuggingFaceModel qwen3 = Llama(1);
  qwen3.architecture = "Qwen3ForCausalLM";
  qwen3.tensors["model.layers.0.self_attn.q_norm.weight"] = {{16}, DType::kBF16};
  qwen3.tensors["model.layers.0.self_attn.k_norm.weight"] = {{16}, DType::kBF16};
  ExpectUnsupported(Refused(qwen3, Ranks(1, 1, 1, "0.17")), HasSubstr("1.0 and later do"));
  const auto layout = TensorRtLlmLayout(qwen3, {});
  ASSERT_TRUE(layout.ok()) << Describe(layout.status());
  EXPECT_THAT(layout->warnings, testing::ElementsAre(HasSubstr("from version 1.0 on")));
}

TEST(TensorRtLlmRefusal, StagesOfAClassThatHasNone) {
  HuggingFaceModel phi3 = Llama(2);
  phi3.architecture = "Phi3ForCausalLM";
  ExpectUnsupported(Refused(phi3, Ranks(1, 2)), HasSubstr("--pipeline-parallel 1 would work"));
}

TEST(TensorRtLlmRefusal, WhatTheClassesCannotCompute) {
  const auto with = [](const char* field, const nlohmann::ordered_json& value) {
    HuggingFaceModel model = Llama(1);
    model.config[field] = value;
    return model;
  };
  ExpectUnsupported(Refused(with("hidden_act", "xielu")), HasSubstr("xielu"));
  ExpectUnsupported(Refused(with("rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}})), HasSubstr("yarn"));
  ExpectUnsupported(
      Refused(with("rope_scaling", {{"rope_type", "longrope"}, {"short_factor", {1.0}}, {"long_factor", {1.0}}})),
      HasSubstr("longrope"));
  for (const double epsilon : {-1e-5, -0.5}) {
    const Answer negative = Refused(with("rms_norm_eps", epsilon));
    EXPECT_EQ(negative.reason, Reason::kConfigurationInvalid);
    EXPECT_THAT(negative.text, HasSubstr("epsilon"));
  }
  HuggingFaceModel bias = Llama(1);
  bias.tensors["model.layers.0.self_attn.o_proj.bias"] = {{64}, DType::kBF16};
  const Answer answer = Refused(bias);
  ExpectUnsupported(answer, HasSubstr("model.layers.0.self_attn.o_proj.bias"));
  HuggingFaceModel codes = Llama(1);
  codes.tensors["model.layers.0.mlp.up_proj.weight"].dtype = DType::kF8E4M3;
  ExpectUnsupported(Refused(codes), AllOf(HasSubstr("F8_E4M3"), HasSubstr("model.layers.0.mlp.up_proj.weight")));
  HuggingFaceModel neox = Llama(1);
  neox.architecture = "GPTNeoXForCausalLM";
  neox.tensors["embed_in.weight"] = {{256, 64}, DType::kBF16};
  ExpectUnsupported(Refused(neox), HasSubstr("use_parallel_residual"));
}

TEST(TensorRtLlmRefusal, TensorsThatAreNotThereOrOfAnotherShape) {
  HuggingFaceModel missing = Llama();
  missing.tensors.erase("model.layers.2.mlp.up_proj.weight");
  Answer answer = Refused(missing);
  EXPECT_EQ(answer.reason, Reason::kTensorMissing);
  EXPECT_THAT(answer.text, HasSubstr("model.layers.2.mlp.up_proj.weight"));
  HuggingFaceModel misshapen = Llama();
  misshapen.tensors["model.layers.1.self_attn.k_proj.weight"].shape = {16, 64};
  answer = Refused(misshapen);
  EXPECT_EQ(answer.reason, Reason::kTensorShapeMismatch);
  EXPECT_THAT(answer.text, AllOf(HasSubstr("model.layers.1.self_attn.k_proj.weight"), HasSubstr("[32, 64]")));
}

TEST(TensorRtLlmRefusal, NoConfigurationBreaksIt) {
  const nlohmann::ordered_json hostile[] = {nullptr,
                                            0,
                                            -1,
                                            std::int64_t{1} << 40,
                                            std::numeric_limits<std::int64_t>::max(),
                                            std::numeric_limits<std::uint64_t>::max(),
                                            1e300,
                                            "64",
                                            nlohmann::ordered_json::array(),
                                            nlohmann::ordered_json::object(),
                                            true};
  for (HuggingFaceModel model : {Llama(2), Mixtral(2)}) {
    for (const char* architecture :
         {"LlamaForCausalLM", "MixtralForCausalLM", "Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM", "Gemma3ForCausalLM",
          "FalconForCausalLM", "GPT2LMHeadModel", "NemotronForCausalLM", "Phi3ForCausalLM"}) {
      model.architecture = architecture;
      model.tensors["transformer.wte.weight"] = {{256, 64}, DType::kBF16};
      model.tensors["transformer.word_embeddings.weight"] = {{256, 64}, DType::kBF16};
      for (const char* field : {"hidden_size",
                                "num_hidden_layers",
                                "num_attention_heads",
                                "num_key_value_heads",
                                "head_dim",
                                "intermediate_size",
                                "vocab_size",
                                "max_position_embeddings",
                                "rms_norm_eps",
                                "hidden_act",
                                "rope_theta",
                                "rope_scaling",
                                "rope_parameters",
                                "num_local_experts",
                                "num_experts_per_tok",
                                "moe_intermediate_size",
                                "mlp_only_layers",
                                "decoder_sparse_step",
                                "sliding_window",
                                "use_sliding_window",
                                "layer_types",
                                "sliding_window_pattern",
                                "query_pre_attn_scalar",
                                "tie_word_embeddings",
                                "n_inner"}) {
        for (const nlohmann::ordered_json& value : hostile) {
          HuggingFaceModel changed = model;
          changed.config[field] = value;
          for (const RankRequest& request : {RankRequest{}, RankRequest{2, 2, 2, ""}, RankRequest{4, 2, 1, "1.0"}}) {
            const absl::Status status = TensorRtLlmLayout(changed, request).status();
            EXPECT_NE(ReasonOf(status), Reason::kInternal) << field << " " << value;
          }
        }
      }
    }
    model.config = nlohmann::ordered_json::array();
    EXPECT_EQ(Refused(model).reason, Reason::kConfigurationInvalid);
  }
}

}  // namespace
}  // namespace slipway::engine
