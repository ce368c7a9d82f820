#include "worker/engine/checkpoint/run_config.h"

#include <string>

#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/temporary_directory.h"
#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/checkpoint/yaml_document.h"

namespace slipway::engine {
namespace {

using nlohmann::json;

json Arguments(const std::string& yaml) { return RunConfigArguments(*ParseYaml(yaml, "run_config.yaml")); }

TEST(RunConfig, FieldsOfOtherNamesBecomeTheirArguments) {
  const json arguments = Arguments(R"(
model:
  _target_: megatron.bridge.models.gpt_provider.GPTModelProvider
  layernorm_epsilon: 1.0e-06
  num_moe_experts: 8
  share_embeddings_and_output_weights: false
  layernorm_zero_centered_gamma: true
  rope_scaling: true
  seq_len_interpolation_factor: 2.0
  moe_router_topk: 2
  moe_layer_freq: [0, 1, 1]
  q_lora_rank: 1536
  mamba_state_dim: 128
  linear_num_key_heads: 16
  vocab_size: 200
  hf_model_id: org/model
)");
  EXPECT_EQ(arguments["norm_epsilon"], 1e-6);
  EXPECT_EQ(arguments["num_experts"], 8);
  EXPECT_EQ(arguments["untie_embeddings_and_output_weights"], true);
  EXPECT_EQ(arguments["apply_layernorm_1p"], true);
  EXPECT_EQ(arguments["use_rope_scaling"], true);
  EXPECT_EQ(arguments["rotary_seq_len_interpolation_factor"], 2.0);
  EXPECT_EQ(arguments["moe_router_topk"], 2);
  EXPECT_EQ(arguments["moe_layer_freq"], json::array({0, 1, 1}));
  EXPECT_EQ(arguments["q_lora_rank"], 1536);
  EXPECT_EQ(arguments["mamba_state_dim"], 128);
  EXPECT_EQ(arguments["linear_num_key_heads"], 16);
  EXPECT_EQ(arguments["vocab_size"], 200);
  EXPECT_EQ(arguments["hf_model_id"], "org/model");
  for (const char* name :
       {"_target_", "layernorm_epsilon", "num_moe_experts", "rope_scaling", "share_embeddings_and_output_weights"}) {
    EXPECT_FALSE(arguments.contains(name)) << name;
  }
}

TEST(RunConfig, TheBuildersStyleIsReadAsTheFlatOne) {
  const json arguments = Arguments(R"(
model:
  vocab_size: 200
  hidden_size: 64
  extra_checkpoint_metadata: {hf_model_id: org/model}
  transformer:
    hidden_size: 32
    num_layers: 3
    layernorm_epsilon: 1.0e-05
tokenizer: {tokenizer_type: HuggingFaceTokenizer, tokenizer_model: org/model, vocab_size: 7}
)");
  EXPECT_EQ(arguments["vocab_size"], 200);
  EXPECT_EQ(arguments["hidden_size"], 64) << "the level of the model goes first";
  EXPECT_EQ(arguments["num_layers"], 3);
  EXPECT_EQ(arguments["norm_epsilon"], 1e-5);
  EXPECT_EQ(arguments["hf_model_id"], "org/model");
  EXPECT_EQ(arguments["tokenizer_model"], "org/model");
  EXPECT_FALSE(arguments.contains("transformer"));
}

TEST(RunConfig, ObjectsOfPythonAreValuesAndNothingIsMadeOfThem) {
  const json arguments = Arguments(R"(
model:
  params_dtype: {_target_: torch.bfloat16, _call_: false}
  attention_backend: {_target_: megatron.core.transformer.enums.AttnBackend, _call_: true, _args_: [5], _name_: auto}
  init_method: {_target_: torch.nn.init.normal_, _partial_: true, _args_: [], std: 0.02}
  evil: {_target_: os.system, _call_: true, _args_: [[reboot]]}
)");
  EXPECT_EQ(arguments["params_dtype"], "torch.bfloat16");
  EXPECT_EQ(arguments["attention_backend"],
            (json{{"enum", "megatron.core.transformer.enums.AttnBackend"}, {"value", 5}}));
  EXPECT_EQ(arguments["init_method"], (json{{"opaque", "torch.nn.init.normal_"}}));
  EXPECT_EQ(arguments["evil"], (json{{"opaque", "os.system"}}));
}

TEST(RunConfig, ActivationsBecomeTheirFlags) {
  struct Case {
    const char* function;
    bool gated;
    const char* flag;  // the one that is true; "" for none
  };
  for (const Case& c : {Case{"torch.nn.functional.silu", true, "swiglu"},
                        Case{"megatron.core.activations.quick_gelu", true, "quick_geglu"},
                        Case{"megatron.core.activations.squared_relu", false, "squared_relu"},
                        Case{"megatron.core.transformer.utils.openai_gelu", false, "openai_gelu"},
                        Case{"torch.nn.functional.gelu", false, ""}, Case{"torch.nn.functional.gelu", true, ""},
                        Case{"torch.nn.functional.silu", false, ""}}) {
    const json arguments = Arguments(std::string("model: {activation_func: {_call_: false, _target_: ") + c.function +
                                     "}, gated_linear_unit: " + (c.gated ? "true" : "false") + "}");
    for (const char* flag : {"swiglu", "quick_geglu", "squared_relu", "openai_gelu"}) {
      EXPECT_EQ(arguments.value(flag, false), std::string(flag) == c.flag) << c.function << " " << flag;
    }
    EXPECT_EQ(arguments["gated_linear_unit"], c.gated);
  }
}

TEST(RunConfig, AGatedUnitOfAnotherFunctionIsNotCalledUngated) {
  const json arguments = Arguments("model: {activation_func: {_target_: a.fast_gelu}, gated_linear_unit: true}");
  EXPECT_FALSE(arguments.contains("swiglu"));
  EXPECT_EQ(arguments["activation_func"], "fast_gelu");
}

TEST(RunConfig, GroupsOfQueriesCountWhereTheyAreFewerThanTheHeads) {
  EXPECT_EQ(Arguments("model: {num_attention_heads: 8, num_query_groups: 2}")["group_query_attention"], true);
  EXPECT_EQ(Arguments("model: {num_attention_heads: 8, num_query_groups: 8}")["group_query_attention"], false);
  EXPECT_EQ(Arguments("model: {num_attention_heads: 8, num_query_groups: null}")["group_query_attention"], false);
}

TEST(RunConfig, WhatHasNoModelHasNoArguments) {
  EXPECT_EQ(Arguments("[1]"), json::object());
  EXPECT_EQ(Arguments("model: 7"), json::object());
}

TEST(ModelOptRunConfig, PrintedValuesAreReadLeniently) {
  const json arguments = ModelOptArguments(*ParseYaml(R"(
num_layers: 2
layernorm_epsilon: '1e-05'
kv_channels: 'None'
params_dtype: torch.bfloat16
activation_func: <function silu at 0x7f00>
gated_linear_unit: true
moe_layer_freq: '[0, 1, 1]'
window_size: (128, 0)
attention_backend: AttnBackend.auto
num_query_groups: '2'
num_attention_heads: 4
)",
                                                      "modelopt_run_config.yaml"));
  EXPECT_EQ(arguments["norm_epsilon"], 1e-5);
  EXPECT_TRUE(arguments["kv_channels"].is_null());
  EXPECT_EQ(arguments["params_dtype"], "torch.bfloat16");
  EXPECT_EQ(arguments["swiglu"], true);
  EXPECT_EQ(arguments["moe_layer_freq"], json::array({0, 1, 1}));
  EXPECT_EQ(arguments["window_size"], json::array({128, 0}));
  EXPECT_EQ(arguments["attention_backend"], "AttnBackend.auto");
  EXPECT_EQ(arguments["num_query_groups"], 2);
  EXPECT_EQ(arguments["group_query_attention"], true);
}

class CompletedArguments : public testing::Test {
 protected:
  absl::Status Complete(CommonState& common) {
    return CompleteArguments(**OpenLocalDirectory(directory_.path()), common);
  }
  test::TemporaryDirectory directory_;
};

TEST_F(CompletedArguments, TheRunsConfigurationGoesBeforeTheArguments) {
  directory_.Write("run_config.yaml", "model: {num_layers: 3, kv_channels: null, tensor_model_parallel_size: 2}");
  directory_.Write("modelopt_run_config.yaml", "hidden_size: 7");
  CommonState common;
  common.arguments = {{"num_layers", 4}, {"kv_channels", 16}, {"seed", 1}};
  ASSERT_TRUE(Complete(common).ok());
  EXPECT_EQ(common.arguments["num_layers"], 3);
  EXPECT_EQ(common.arguments["kv_channels"], 16) << "null says nothing";
  EXPECT_EQ(common.arguments["seed"], 1);
  EXPECT_FALSE(common.arguments.contains("hidden_size"));
  EXPECT_EQ(common.layout.tensor, 2);
}

TEST_F(CompletedArguments, ModelOptsConfigurationCountsWhereThereIsNoOther) {
  directory_.Write("modelopt_run_config.yaml", "num_layers: 3\n");
  CommonState none;
  ASSERT_TRUE(Complete(none).ok());
  EXPECT_EQ(none.arguments["num_layers"], 3);
  CommonState some;
  some.arguments = {{"hidden_size", 16}};
  ASSERT_TRUE(Complete(some).ok());
  EXPECT_FALSE(some.arguments.contains("num_layers"));
}

TEST_F(CompletedArguments, ADamagedConfigurationIsRefusedByName) {
  directory_.Write("run_config.yaml", "model: [");
  CommonState common;
  const absl::Status status = Complete(common);
  EXPECT_EQ(ReasonOf(status), Reason::kCheckpointCorrupt);
  EXPECT_EQ(WhereOf(status).file, directory_ / "run_config.yaml");
}

TEST(BridgeCheckpoint, TheArgumentsAreThoseOfItsConfiguration) {
  const auto checkpoint =
      ReadCheckpoint(std::string(SLIPWAY_TEST_DATA) + "/checkpoints/bridge-native_llama3_tp2_pp1", {});
  ASSERT_TRUE(checkpoint.ok()) << Describe(checkpoint.status());
  const json& arguments = *(*checkpoint)->arguments;
  EXPECT_EQ(arguments["num_layers"], 3);
  EXPECT_EQ(arguments["norm_epsilon"], 1e-5);
  EXPECT_EQ(arguments["swiglu"], true);
  EXPECT_EQ(arguments["params_dtype"], "torch.bfloat16");
  EXPECT_EQ(arguments["untie_embeddings_and_output_weights"], true);
  EXPECT_EQ(arguments["use_rope_scaling"], true);
  EXPECT_EQ(arguments["hf_model_id"], "models/tiny-llama3_a");
  EXPECT_EQ((*checkpoint)->layout.tensor, 2);
  EXPECT_EQ((*checkpoint)->layout.pipeline, 1);
  EXPECT_EQ((*checkpoint)->writer, "Megatron-Bridge");
}

}  // namespace
}  // namespace slipway::engine
