#include "worker/engine/target/huggingface_config.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace slipway::engine {
namespace {

using nlohmann::json;

Model Llama31() {
  Model model;
  model.architecture = FindArchitecture("LlamaForCausalLM");
  model.configuration.layers = 32;
  model.configuration.hidden_size = 4096;
  model.configuration.ffn_hidden_size = 14336;
  model.configuration.attention_heads = 32;
  model.configuration.query_groups = 8;
  model.configuration.head_dimension = 128;
  model.configuration.vocabulary_size = 128256;
  model.configuration.padded_vocabulary_size = 128256;
  model.configuration.maximum_positions = 131072;
  model.configuration.rotary_base = 500000.0;
  model.configuration.llama3_rope_factor = 8.0;
  return model;
}

// meta-llama/Llama-3.1-8B's published config.json, without bookkeeping.
json PublishedLlama31() {
  return json::parse(R"({
    "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 128000,
    "eos_token_id": 128001, "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
    "intermediate_size": 14336, "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama",
    "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "pretraining_tp": 1,
    "rms_norm_eps": 1e-05, "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192, "rope_type": "llama3"}, "rope_theta": 500000.0,
    "tie_word_embeddings": false, "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 128256})");
}

json Make(const Model& model, std::vector<std::string>& warnings, bool allow_custom_code = false) {
  return MakeHuggingFaceConfig(model, json::object(), DType::kBF16, allow_custom_code, warnings);
}

TEST(HuggingFaceConfig, AGeneratedConfigSaysWhatThePublishedOneSays) {
  std::vector<std::string> warnings;
  const json config = Make(Llama31(), warnings);
  const json published = PublishedLlama31();
  for (const auto& [key, value] : published.items()) {
    if (!key.ends_with("_token_id") && key != "initializer_range") {  // not known from weights
      EXPECT_EQ(config.value(key, json()), value) << key;
    }
  }
  EXPECT_EQ(config["head_dim"], 128);
}

TEST(HuggingFaceConfig, NumbersPrintSoThatPythonReadsThemBackEqual) {
  std::vector<std::string> warnings;
  const std::string text = Make(Llama31(), warnings).dump();
  EXPECT_NE(text.find(R"("rope_theta":500000.0)"), std::string::npos) << text;
  EXPECT_NE(text.find(R"("rms_norm_eps":1e-05)"), std::string::npos) << text;
}

TEST(HuggingFaceConfig, TheUsersConfigStaysAsItIsWhereItAgrees) {
  Model model = Llama31();
  model.hf_config = PublishedLlama31();
  model.hf_config["my_own_key"] = {1, 2, 3};
  model.hf_config["rms_norm_eps"] = 9.999999747378752e-06;
  std::vector<std::string> warnings;
  const json config = Make(model, warnings);
  EXPECT_TRUE(warnings.empty()) << warnings.front();
  json expected = model.hf_config;
  expected["head_dim"] = 128;
  EXPECT_EQ(config, expected);
}

TEST(HuggingFaceConfig, RotarySettingsAreTheSameInAnySpelling) {
  Model model = Llama31();
  model.hf_config = PublishedLlama31();
  model.hf_config["rope_parameters"] = model.hf_config["rope_scaling"];
  model.hf_config["rope_parameters"]["rope_theta"] = 500000.0;
  model.hf_config.erase("rope_scaling");
  model.hf_config.erase("rope_theta");
  std::vector<std::string> warnings;
  const json config = Make(model, warnings);
  EXPECT_TRUE(warnings.empty()) << warnings.front();
  EXPECT_FALSE(config.contains("rope_theta"));
  EXPECT_EQ(config["rope_parameters"], model.hf_config["rope_parameters"]);
}

TEST(HuggingFaceConfig, WhatDiffersIsReplacedAndSaid) {
  Model model = Llama31();
  model.hf_config = PublishedLlama31();
  model.hf_config["num_hidden_layers"] = 16;
  model.hf_config["rope_theta"] = 10000.0;
  std::vector<std::string> warnings;
  const json config = Make(model, warnings);
  EXPECT_EQ(config["num_hidden_layers"], 32);
  EXPECT_EQ(config["rope_theta"], 500000.0);
  ASSERT_EQ(warnings.size(), 2U);
  EXPECT_NE(warnings[0].find("num_hidden_layers is 32, not 16"), std::string::npos) << warnings[0];
  EXPECT_NE(warnings[1].find("rotary"), std::string::npos) << warnings[1];
}

TEST(HuggingFaceConfig, AScalingThatNoCheckpointStatesStaysTheUsers) {
  Model model = Llama31();
  model.configuration.llama3_rope_factor.reset();
  model.hf_config = PublishedLlama31();
  model.hf_config["rope_scaling"] = {{"type", "yarn"}, {"factor", 4.0}};
  std::vector<std::string> warnings;
  EXPECT_EQ(Make(model, warnings)["rope_scaling"], model.hf_config["rope_scaling"]);
  EXPECT_TRUE(warnings.empty());
}

TEST(HuggingFaceConfig, TheBaseBesideSuchAScalingIsTheCheckpointsAllTheSame) {
  Model model = Llama31();
  model.configuration.llama3_rope_factor.reset();
  model.hf_config = PublishedLlama31();
  model.hf_config["rope_scaling"] = {{"type", "yarn"}, {"factor", 4.0}};
  const json base = model.hf_config["rope_theta"];
  model.hf_config["rope_theta"] = 5'000'000;
  std::vector<std::string> warnings;
  json config = Make(model, warnings);
  EXPECT_EQ(config["rope_theta"], base);
  EXPECT_EQ(config["rope_scaling"], model.hf_config["rope_scaling"]);
  EXPECT_EQ(warnings.size(), 1U);
  model.hf_config.erase("rope_theta");
  model.hf_config.erase("rope_scaling");
  model.hf_config["rope_parameters"] = {{"rope_type", "yarn"}, {"factor", 4.0}, {"rope_theta", 5'000'000}};
  config = Make(model, warnings);
  EXPECT_EQ(config["rope_parameters"]["rope_theta"], base);
  EXPECT_EQ(config["rope_parameters"]["rope_type"], "yarn");
}

TEST(HuggingFaceConfig, QuantizationAndCodeOfTheSourceAreNotCarriedOver) {
  Model model = Llama31();
  model.hf_config = PublishedLlama31();
  model.hf_config["quantization_config"] = {{"quant_method", "fp8"}};
  model.hf_config["auto_map"] = {{"AutoModel", "modeling.Evil"}};
  std::vector<std::string> warnings;
  const json config = Make(model, warnings);
  EXPECT_FALSE(config.contains("quantization_config"));
  EXPECT_FALSE(config.contains("auto_map"));
  EXPECT_EQ(warnings.size(), 2U);
  EXPECT_TRUE(Make(model, warnings, /*allow_custom_code=*/true).contains("auto_map"));
}

TEST(HuggingFaceConfig, QuantizationOfAPartAndUnderItsOlderNameIsNotCarriedOverEither) {
  Model model = Llama31();
  model.hf_config = PublishedLlama31();
  model.hf_config["compression_config"] = {{"quant_method", "compressed-tensors"}};
  model.hf_config["text_config"] = {{"quantization_config", {{"quant_method", "fp8"}}}, {"x", 1}};
  std::vector<std::string> warnings;
  const json config = Make(model, warnings);
  EXPECT_FALSE(config.contains("compression_config"));
  EXPECT_EQ(config["text_config"], json({{"x", 1}}));
  EXPECT_EQ(warnings.size(), 2U);
}

TEST(HuggingFaceConfig, MistralSaysThatItHasNoWindow) {
  Model model = Llama31();
  model.architecture = FindArchitecture("MistralForCausalLM");
  model.configuration.llama3_rope_factor.reset();
  std::vector<std::string> warnings;
  const json config = Make(model, warnings);
  ASSERT_TRUE(config.contains("sliding_window"));
  EXPECT_TRUE(config["sliding_window"].is_null());
}

TEST(HuggingFaceConfig, QwensWindowIsOffAndTheUsersWidthOfItStays) {
  Model model = Llama31();
  model.architecture = FindArchitecture("Qwen2ForCausalLM");
  model.configuration.llama3_rope_factor.reset();
  std::vector<std::string> warnings;
  const json generated = Make(model, warnings);
  EXPECT_EQ(generated["use_sliding_window"], false);
  EXPECT_EQ(generated["layer_types"].size(), 32U);
  model.hf_config = generated;
  model.hf_config["sliding_window"] = 131072;
  EXPECT_EQ(Make(model, warnings)["sliding_window"], 131072);
  EXPECT_TRUE(warnings.empty());
}

TEST(HuggingFaceConfig, TokenIdsFillWhatIsNotStated) {
  Model model = Llama31();
  std::vector<std::string> warnings;
  const json ids = {{"bos_token_id", 1}, {"eos_token_id", 2}};
  EXPECT_EQ(MakeHuggingFaceConfig(model, ids, DType::kBF16, false, warnings)["eos_token_id"], 2);
  model.hf_config = PublishedLlama31();
  EXPECT_EQ(MakeHuggingFaceConfig(model, ids, DType::kBF16, false, warnings)["eos_token_id"], 128001);
}

}  // namespace
}  // namespace slipway::engine
