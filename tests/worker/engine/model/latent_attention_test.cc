// DeepSeek-V3's kind: latent attention, experts after dense layers, prediction layers; what is derived, told apart and
// refused.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/error.h"
#include "tests/worker/engine/plan/model_checkpoint.h"
#include "worker/engine/model/model.h"
#include "worker/engine/model/rule_instances.h"
#include "worker/engine/target/huggingface_config.h"

namespace slipway::engine {
namespace {

using nlohmann::json;

// 4 heads with 5 + 2 rows a query, 5 + 6 a key and value; ranks 7 and 8; 3 experts as wide as 4, two shared ones.
struct Dimensions {
  std::int64_t hidden = 12;
  std::int64_t heads = 4;
  std::int64_t nope = 5;
  std::int64_t rope = 2;
  std::int64_t value = 6;
  std::int64_t query_rank = 7;
  std::int64_t key_value_rank = 8;
};

void AddLayer(Checkpoint& checkpoint, const std::string& prefix, bool experts) {
  const Dimensions d;
  const auto add = [&](const std::string& name, const Shape& shape, DType dtype = DType::kBF16) {
    test::AddTensor(checkpoint, test::Stored(prefix + name, dtype, shape));
  };
  add("input_layernorm.weight", {d.hidden});
  add("self_attention.linear_q_down_proj.weight", {d.query_rank, d.hidden});
  add("self_attention.linear_q_up_proj.layer_norm_weight", {d.query_rank});
  add("self_attention.linear_q_up_proj.weight", {d.heads * (d.nope + d.rope), d.query_rank});
  add("self_attention.linear_kv_down_proj.weight", {d.key_value_rank + d.rope, d.hidden});
  add("self_attention.linear_kv_up_proj.layer_norm_weight", {d.key_value_rank});
  add("self_attention.linear_kv_up_proj.weight", {d.heads * (d.nope + d.value), d.key_value_rank});
  add("self_attention.linear_proj.weight", {d.hidden, d.heads * d.value});
  add("pre_mlp_layernorm.weight", {d.hidden});
  if (!experts) {
    add("mlp.linear_fc1.weight", {20, d.hidden});
    add("mlp.linear_fc2.weight", {d.hidden, 10});
    return;
  }
  add("mlp.router.weight", {3, d.hidden});
  add("mlp.router.expert_bias", {3}, DType::kF32);
  add("mlp.experts.experts.linear_fc1.weight", {3, 8, d.hidden});
  add("mlp.experts.experts.linear_fc2.weight", {3, d.hidden, 4});
  add("mlp.shared_experts.linear_fc1.weight", {16, d.hidden});
  add("mlp.shared_experts.linear_fc2.weight", {d.hidden, 8});
}

// One dense layer, one with experts, one prediction layer; arguments without any size that tensors show.
std::shared_ptr<Checkpoint> Deepseek() {
  auto checkpoint = test::MakeCheckpoint({.groups = 4, .stacked = false});
  std::erase_if(checkpoint->tensors,
                [](const StoredTensor& tensor) { return tensor.name.find(".layers.") != std::string::npos; });
  AddLayer(*checkpoint, "decoder.layers.0.", /*experts=*/false);
  AddLayer(*checkpoint, "decoder.layers.1.", /*experts=*/true);
  AddLayer(*checkpoint, "mtp.layers.0.transformer_layer.", /*experts=*/true);
  for (const char* name : {"enorm", "hnorm", "final_layernorm"}) {
    test::AddTensor(*checkpoint,
                    test::Stored(std::string("mtp.layers.0.") + name + ".weight", DType::kBF16, {Dimensions().hidden}));
  }
  test::AddTensor(*checkpoint, test::Stored("mtp.layers.0.eh_proj.weight", DType::kBF16,
                                            {Dimensions().hidden, 2 * Dimensions().hidden}));
  test::SetArgument(*checkpoint, "num_experts", 3);
  test::SetArgument(*checkpoint, "moe_router_topk", 2);
  test::SetArgument(*checkpoint, "multi_latent_attention", true);
  test::SetArgument(*checkpoint, "moe_router_score_function", "sigmoid");
  test::SetArgument(*checkpoint, "mtp_num_layers", 1);
  return checkpoint;
}

absl::StatusOr<Model> Learn(const Checkpoint& checkpoint, const std::string& architecture = {}) {
  const auto tensors = Canonicalize(checkpoint);
  EXPECT_TRUE(tensors.ok()) << Describe(tensors.status());
  return LearnModel(checkpoint, *tensors, {.architecture = architecture, .hf_config = {}});
}

json ConfigOf(const Model& model) {
  std::vector<std::string> warnings;
  return MakeHuggingFaceConfig(model, json::object(), DType::kBF16, /*allow_custom_code=*/false, warnings);
}

TEST(LatentAttention, SizesThatArgumentsDoNotSayAreDerivedFromTensors) {
  const auto model = Learn(*Deepseek());
  ASSERT_TRUE(model.ok()) << Describe(model.status());
  EXPECT_EQ(model->architecture->name, "DeepseekV3ForCausalLM");
  const json config = ConfigOf(*model);
  const json expected = {{"q_lora_rank", 7},
                         {"kv_lora_rank", 8},
                         {"qk_nope_head_dim", 5},
                         {"qk_rope_head_dim", 2},
                         {"v_head_dim", 6},
                         {"n_routed_experts", 3},
                         {"n_shared_experts", 2},
                         {"moe_intermediate_size", 4},
                         {"intermediate_size", 10},
                         {"first_k_dense_replace", 1},
                         {"num_nextn_predict_layers", 1},
                         {"topk_method", "noaux_tc"},
                         {"num_key_value_heads", 4},
                         {"rope_scaling", nullptr}};
  for (const auto& [name, value] : expected.items()) {
    EXPECT_EQ(config[name], value) << name;
  }
}

TEST(LatentAttention, YarnIsWrittenWithMegatronsDefaults) {
  const auto checkpoint = Deepseek();
  test::SetArgument(*checkpoint, "rotary_scaling_factor", 40.0);
  const auto model = Learn(*checkpoint);
  ASSERT_TRUE(model.ok()) << Describe(model.status());
  const json expected = {
      {"type", "yarn"},   {"rope_type", "yarn"}, {"factor", 40.0},        {"beta_fast", 32.0},
      {"beta_slow", 1.0}, {"mscale", 1.0},       {"mscale_all_dim", 0.0}, {"original_max_position_embeddings", 4096}};
  EXPECT_EQ(ConfigOf(*model)["rope_scaling"], expected);
  test::SetArgument(*checkpoint, "rope_type", "rope");
  EXPECT_TRUE(ConfigOf(*Learn(*checkpoint))["rope_scaling"].is_null());
}

TEST(LatentAttention, PredictionLayersThatArgumentsStateAreNeeded) {
  const auto checkpoint = Deepseek();
  test::SetArgument(*checkpoint, "mtp_num_layers", 2);
  const auto model = Learn(*checkpoint);
  ASSERT_TRUE(model.ok()) << Describe(model.status());
  EXPECT_EQ(model->configuration.prediction_kinds.size(), 2U);
  // One that is used for all tokens is stored once.
  test::SetArgument(*checkpoint, "mtp_use_repeated_layer", true);
  const auto repeated = Learn(*checkpoint);
  ASSERT_TRUE(repeated.ok()) << Describe(repeated.status());
  EXPECT_EQ(ConfigOf(*repeated)["num_nextn_predict_layers"], 1);
}

TEST(LatentAttention, PredictionLayersAreCountedOnFromTheDecoders) {
  const auto model = Learn(*Deepseek());
  ASSERT_TRUE(model.ok()) << Describe(model.status());
  std::map<std::string, std::string> names;
  for (const RuleInstance& instance : InstancesOf(*model->architecture, model->configuration)) {
    names[SourceName(instance, model->configuration, 1)] = TargetName(instance, 0, model->configuration, 1);
  }
  EXPECT_EQ(names["mtp.layers.0.enorm.weight"], "model.layers.2.enorm.weight");
  EXPECT_EQ(names["mtp.layers.0.eh_proj.weight"], "model.layers.2.eh_proj.weight");
  EXPECT_EQ(names["mtp.layers.0.final_layernorm.weight"], "model.layers.2.shared_head.norm.weight");
  EXPECT_EQ(names["mtp.layers.0.transformer_layer.mlp.router.expert_bias"],
            "model.layers.2.mlp.gate.e_score_correction_bias");
  EXPECT_EQ(names["mtp.layers.0.transformer_layer.mlp.experts.1.linear_fc2.weight"],
            "model.layers.2.mlp.experts.1.down_proj.weight");
}

TEST(LatentAttention, SoftmaxBeforeTheChoiceMakesItDeepseekV2AndAfterItNone) {
  const auto checkpoint = Deepseek();
  test::SetArgument(*checkpoint, "moe_router_score_function", "softmax");
  test::SetArgument(*checkpoint, "moe_router_pre_softmax", true);
  std::erase_if(checkpoint->tensors, [](const StoredTensor& tensor) { return tensor.name.ends_with("expert_bias"); });
  const auto model = Learn(*checkpoint);
  ASSERT_TRUE(model.ok()) << Describe(model.status());
  EXPECT_EQ(model->architecture->name, "DeepseekV2ForCausalLM");
  EXPECT_EQ(ConfigOf(*model)["norm_topk_prob"], false);
  test::SetArgument(*checkpoint, "moe_router_pre_softmax", false);
  EXPECT_EQ(ReasonOf(Learn(*checkpoint).status()), Reason::kArchitectureUnsupported);
}

TEST(LatentAttention, OnlyItsNameTellsGlmFromDeepseekAndANoteSaysSo) {
  const auto checkpoint = Deepseek();
  const auto model = Learn(*checkpoint);
  ASSERT_TRUE(model.ok()) << Describe(model.status());
  ASSERT_FALSE(model->notes.empty());
  EXPECT_NE(model->notes.back().find("Glm4MoeLiteForCausalLM"), std::string::npos) << model->notes.back();
  const auto glm = Learn(*checkpoint, "Glm4MoeLiteForCausalLM");
  ASSERT_TRUE(glm.ok()) << Describe(glm.status());
  EXPECT_EQ(ConfigOf(*glm)["mlp_layer_types"], json({"dense", "sparse"}));
}

TEST(LatentAttention, DenseLayersAfterExpertsAreRefused) {
  auto checkpoint = Deepseek();
  std::erase_if(checkpoint->tensors,
                [](const StoredTensor& tensor) { return tensor.name.starts_with("decoder.layers."); });
  AddLayer(*checkpoint, "decoder.layers.0.", /*experts=*/true);
  AddLayer(*checkpoint, "decoder.layers.1.", /*experts=*/false);
  EXPECT_EQ(ReasonOf(Learn(*checkpoint).status()), Reason::kArchitectureUnsupported);
}

TEST(LatentAttention, SizesOutsideAllReasonAreRefusedByName) {
  for (const char* name : {"q_lora_rank", "kv_lora_rank", "qk_head_dim", "qk_pos_emb_head_dim", "v_head_dim",
                           "num_experts", "moe_ffn_hidden_size", "dsa_indexer_n_heads", "dsa_indexer_head_dim"}) {
    const auto checkpoint = Deepseek();
    test::SetArgument(*checkpoint, name, std::int64_t{1} << 39);
    const auto model = Learn(*checkpoint);
    EXPECT_EQ(ReasonOf(model.status()), Reason::kConfigurationInvalid) << name;
    EXPECT_NE(Describe(model.status()).find(name), std::string::npos) << Describe(model.status());
  }
}

// A router that chooses by sigmoid is none of the families whose routers use softmax.
TEST(LatentAttention, ASigmoidRouterIsNotQwens) {
  const auto checkpoint = test::MakeCheckpoint({.qk_norm = true, .stacked = false});
  for (const char* layer : {"0", "1"}) {
    const std::string prefix = std::string("decoder.layers.") + layer + ".mlp.";
    test::RemoveTensor(*checkpoint, prefix + "linear_fc1.weight");
    test::RemoveTensor(*checkpoint, prefix + "linear_fc2.weight");
    test::AddTensor(*checkpoint, test::Stored(prefix + "router.weight", DType::kBF16, {4, 12}));
    test::AddTensor(*checkpoint, test::Stored(prefix + "experts.experts.linear_fc1.weight", DType::kBF16, {4, 20, 12}));
    test::AddTensor(*checkpoint, test::Stored(prefix + "experts.experts.linear_fc2.weight", DType::kBF16, {4, 12, 10}));
  }
  test::SetArgument(*checkpoint, "num_experts", 4);
  test::SetArgument(*checkpoint, "moe_router_score_function", "softmax");
  EXPECT_EQ(Learn(*checkpoint)->architecture->name, "Qwen3MoeForCausalLM");
  test::SetArgument(*checkpoint, "moe_router_score_function", "sigmoid");
  const auto model = Learn(*checkpoint);
  EXPECT_TRUE(!model.ok() || model->architecture->name == "Glm4MoeForCausalLM") << model->architecture->name;
}

}  // namespace
}  // namespace slipway::engine
