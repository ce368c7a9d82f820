// Which family a model is taken for, what is derived, and what is refused.
#include "worker/engine/model/model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include "common/error.h"
#include "tests/worker/engine/plan/model_checkpoint.h"

namespace slipway::engine {
namespace {

using nlohmann::json;
using test::MakeCheckpoint;
using test::TinyModel;

absl::StatusOr<Model> Learn(const Checkpoint& checkpoint, const ModelOptions& options = {}) {
  const auto tensors = Canonicalize(checkpoint);
  EXPECT_TRUE(tensors.ok()) << Describe(tensors.status());
  return LearnModel(checkpoint, *tensors, options);
}

std::string FamilyOf(const TinyModel& m, const ModelOptions& options = {}) {
  const auto model = Learn(*MakeCheckpoint(m), options);
  return model.ok() ? std::string(model->architecture->name) : Describe(model.status());
}

// A directory with this config.json, gone with the object.
class HfConfig {
 public:
  explicit HfConfig(const json& config) {
    std::string path = (std::filesystem::temp_directory_path() / "slipway-model-test-XXXXXX").string();
    path_ = mkdtemp(path.data());
    std::ofstream(path_ / "config.json") << config;
  }
  HfConfig(const HfConfig&) = delete;
  HfConfig& operator=(const HfConfig&) = delete;
  ~HfConfig() { std::filesystem::remove_all(path_); }
  [[nodiscard]] std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

json LlamaConfig() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"hidden_size", 12},
          {"intermediate_size", 10},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 3},
          {"vocab_size", 14},
          {"max_position_embeddings", 4096},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 500000.0},
          {"tie_word_embeddings", false}};
}

TEST(Model, TheFamilyFollowsFromBiasesAndNorms) {
  EXPECT_EQ(FamilyOf({}), "LlamaForCausalLM");
  EXPECT_EQ(FamilyOf({.qkv_bias = true}), "Qwen2ForCausalLM");
  EXPECT_EQ(FamilyOf({.qk_norm = true}), "Qwen3ForCausalLM");
}

TEST(Model, ASlidingWindowMakesItMistral) {
  const auto checkpoint = MakeCheckpoint({});
  test::SetArgument(*checkpoint, "window_size", json::array({4095, 0}));
  const auto model = Learn(*checkpoint);
  ASSERT_TRUE(model.ok()) << Describe(model.status());
  EXPECT_EQ(model->architecture->name, "MistralForCausalLM");
  EXPECT_EQ(model->configuration.sliding_window, 4096);
}

TEST(Model, ANameChoosesAmongFamiliesThatFit) {
  EXPECT_EQ(FamilyOf({}, {.architecture = "MistralForCausalLM", .hf_config = {}}), "MistralForCausalLM");
  for (const char* name : {"Qwen3ForCausalLM", "Qwen2ForCausalLM", "NoSuchForCausalLM"}) {
    const auto model = Learn(*MakeCheckpoint({}), {.architecture = name, .hf_config = {}});
    EXPECT_EQ(ReasonOf(model.status()), Reason::kArchitectureUnsupported);
    EXPECT_NE(Describe(model.status()).find(name), std::string::npos);
  }
}

// The tiny model with four experts in each layer instead of its MLPs.
std::shared_ptr<Checkpoint> WithExperts() {
  TinyModel m;
  m.stacked = false;
  auto checkpoint = MakeCheckpoint(m);
  for (const char* layer : {"0", "1"}) {
    const std::string prefix = std::string("decoder.layers.") + layer + ".mlp.";
    test::RemoveTensor(*checkpoint, prefix + "linear_fc1.weight");
    test::RemoveTensor(*checkpoint, prefix + "linear_fc2.weight");
    test::AddTensor(*checkpoint, test::Stored(prefix + "router.weight", DType::kBF16, {4, 12}));
    test::AddTensor(*checkpoint, test::Stored(prefix + "experts.experts.linear_fc1.weight", DType::kBF16, {4, 20, 12}));
    test::AddTensor(*checkpoint, test::Stored(prefix + "experts.experts.linear_fc2.weight", DType::kBF16, {4, 12, 10}));
  }
  return checkpoint;
}

TEST(Model, ExpertsMakeItMixtralWhetherArgumentsSayItOrNot) {
  for (const json& experts : {json(4), json(nullptr)}) {
    const auto checkpoint = WithExperts();
    test::SetArgument(*checkpoint, "num_experts", experts);
    const auto model = Learn(*checkpoint);
    ASSERT_TRUE(model.ok()) << Describe(model.status());
    EXPECT_EQ(model->architecture->name, "MixtralForCausalLM");
    EXPECT_EQ(model->configuration.experts.count, 4);
    EXPECT_EQ(model->configuration.experts.ffn_hidden_size, 10);
    EXPECT_EQ(model->configuration.layer_kinds.at(1), (LayerKind{Mixer::kAttention, Feed::kExperts}));
  }
}

TEST(Model, HowManyExpertsATokenHasIsMegatronsDefaultWhereNothingSaysIt) {
  const auto model = Learn(*WithExperts());
  ASSERT_TRUE(model.ok()) << Describe(model.status());
  EXPECT_EQ(model->configuration.experts.active, 2);
}

TEST(Model, RoutingThatTheFamilyCannotSayIsRefused) {
  for (const auto& [argument, value] :
       {std::pair("moe_router_topk_scaling_factor", json(2.5)), std::pair("moe_router_num_groups", json(2))}) {
    const auto checkpoint = WithExperts();
    test::SetArgument(*checkpoint, "num_experts", 4);
    test::SetArgument(*checkpoint, argument, value);
    const absl::Status status = Learn(*checkpoint).status();
    EXPECT_EQ(ReasonOf(status), Reason::kArchitectureUnsupported) << argument;
    EXPECT_NE(Describe(status).find(value == 2 ? "in 2 groups" : "times 2.5"), std::string::npos) << Describe(status);
  }
  const auto harmless = WithExperts();
  test::SetArgument(*harmless, "num_experts", 4);
  test::SetArgument(*harmless, "moe_router_topk_scaling_factor", 1.0);
  EXPECT_TRUE(Learn(*harmless).ok());
}

TEST(Model, WhatBelongsToNoFamilyIsRefusedWithTheNearestAndWhatDoesNotMatch) {
  const auto checkpoint = WithExperts();
  for (const char* layer : {"0", "1"}) {
    const std::string prefix = std::string("decoder.layers.") + layer + ".mlp.";
    test::RemoveTensor(*checkpoint, prefix + "experts.experts.linear_fc2.weight");
    test::AddTensor(*checkpoint, test::Stored(prefix + "experts.experts.linear_fc9.weight", DType::kBF16, {4, 12, 10}));
  }
  const std::string error = Describe(Learn(*checkpoint).status());
  EXPECT_NE(error.find("ARCHITECTURE_UNSUPPORTED"), std::string::npos) << error;
  EXPECT_NE(error.find("MixtralForCausalLM comes nearest"), std::string::npos) << error;
  EXPECT_NE(error.find("decoder.layers.{layer}.mlp.experts.{expert}.linear_fc9.weight"), std::string::npos) << error;
  EXPECT_NE(error.find("decoder.layers.{layer}.mlp.experts.{expert}.linear_fc2.weight"), std::string::npos) << error;
}

TEST(Model, WhatCannotBeToldApartIsSaid) {
  const auto model = Learn(*MakeCheckpoint({}));
  ASSERT_TRUE(model.ok()) << Describe(model.status());
  EXPECT_TRUE(std::ranges::any_of(model->notes, [](const std::string& note) {
    return note.find("MistralForCausalLM") != std::string::npos && note.find("--architecture") != std::string::npos;
  }));
}

TEST(Model, AnotherNormOrActivationIsRefused) {
  for (const auto& [name, value] : {std::pair("normalization", json("LayerNorm")), std::pair("swiglu", json(false))}) {
    const auto checkpoint = MakeCheckpoint({});
    test::SetArgument(*checkpoint, name, value);
    EXPECT_EQ(ReasonOf(Learn(*checkpoint).status()), Reason::kArchitectureUnsupported) << name;
  }
}

TEST(Model, WhatArgumentsDoNotSayIsDerivedFromShapes) {
  TinyModel m;
  m.qkv_bias = true;
  m.tied = true;
  const auto checkpoint = MakeCheckpoint(m);
  checkpoint->arguments = std::make_shared<const json>(
      json{{"num_attention_heads", 4}, {"max_position_embeddings", 2048}, {"rotary_base", 10000}});
  const auto model = Learn(*checkpoint);
  ASSERT_TRUE(model.ok()) << Describe(model.status());
  const ModelConfiguration& c = model->configuration;
  EXPECT_EQ(c.layers, m.layers);
  EXPECT_EQ(c.hidden_size, m.hidden);
  EXPECT_EQ(c.ffn_hidden_size, m.ffn);
  EXPECT_EQ(c.head_dimension, m.dimension);
  EXPECT_EQ(c.query_groups, m.groups);
  EXPECT_EQ(c.vocabulary_size, m.padded_vocabulary);
  EXPECT_TRUE(c.tied_embeddings);
  EXPECT_TRUE(c.qkv_bias);
  const auto noted = [&](std::string_view word) {
    return std::ranges::any_of(model->notes, [&](const auto& note) { return note.find(word) != std::string::npos; });
  };
  EXPECT_TRUE(noted("vocab_size is not stated"));
  EXPECT_TRUE(noted("layernorm_epsilon is not stated"));
}

TEST(Model, WithoutArgumentsAConfigIsAskedFor) {
  const auto checkpoint = MakeCheckpoint({});
  checkpoint->arguments = std::make_shared<const json>(json::object());
  const auto refused = Learn(*checkpoint);
  EXPECT_EQ(ReasonOf(refused.status()), Reason::kConfigurationInvalid);
  EXPECT_NE(Describe(refused.status()).find("--hf-config"), std::string::npos);

  const HfConfig config(LlamaConfig());
  const auto model = Learn(*checkpoint, {.architecture = {}, .hf_config = config.path()});
  ASSERT_TRUE(model.ok()) << Describe(model.status());
  EXPECT_EQ(model->architecture->name, "LlamaForCausalLM");
  EXPECT_EQ(model->configuration.vocabulary_size, 14);
  EXPECT_EQ(model->configuration.maximum_positions, 4096);
}

TEST(Model, AConfigOfAnotherModelIsRefusedWithBothSizes) {
  json other = LlamaConfig();
  other["hidden_size"] = 4096;
  const HfConfig config(other);
  const auto model = Learn(*MakeCheckpoint({}), {.architecture = {}, .hf_config = config.path()});
  EXPECT_EQ(ReasonOf(model.status()), Reason::kConfigurationInvalid);
  EXPECT_NE(Describe(model.status()).find("4096"), std::string::npos);
}

TEST(Model, ArgumentsWinOverTheConfigAndThatIsNoted) {
  json config = LlamaConfig();
  config["rope_theta"] = 10000.0;
  config["rms_norm_eps"] = 9.999999747378752e-06;  // 1e-5 in FP32: no difference
  const HfConfig directory(config);
  const auto model = Learn(*MakeCheckpoint({}), {.architecture = {}, .hf_config = directory.path()});
  ASSERT_TRUE(model.ok()) << Describe(model.status());
  EXPECT_EQ(model->configuration.rotary_base, 500000.0);
  const auto notes = [&](std::string_view word) {
    return std::ranges::count_if(model->notes, [&](const auto& n) { return n.find(word) != std::string::npos; });
  };
  EXPECT_EQ(notes("rotary_base"), 1);
  EXPECT_EQ(notes("epsilon"), 0);
}

TEST(Model, TheConfigChoosesTheFamily) {
  json config = LlamaConfig();
  config["architectures"] = {"MistralForCausalLM"};
  config["model_type"] = "mistral";
  const HfConfig mistral(config);
  EXPECT_EQ(FamilyOf({}, {.architecture = {}, .hf_config = mistral.path()}), "MistralForCausalLM");
  config["architectures"] = {"GemmaForCausalLM"};
  const HfConfig gemma(config);
  EXPECT_NE(FamilyOf({}, {.architecture = {}, .hf_config = gemma.path()}).find("GemmaForCausalLM"), std::string::npos);
}

TEST(Model, ABrokenConfigIsRefused) {
  const HfConfig config(json::array({1, 2}));
  EXPECT_EQ(ReasonOf(Learn(*MakeCheckpoint({}), {.architecture = {}, .hf_config = config.path()}).status()),
            Reason::kConfigurationInvalid);
}

TEST(Model, SizesBeyondAllModelsAreRefused) {
  for (const auto& [name, value] :
       {std::pair("num_layers", json(1LL << 39)), std::pair("num_attention_heads", json(1LL << 39)),
        std::pair("kv_channels", json(1LL << 39))}) {
    const auto checkpoint = MakeCheckpoint({});
    test::SetArgument(*checkpoint, name, value);
    EXPECT_EQ(ReasonOf(Learn(*checkpoint).status()), Reason::kConfigurationInvalid) << name;
  }
}

}  // namespace
}  // namespace slipway::engine
