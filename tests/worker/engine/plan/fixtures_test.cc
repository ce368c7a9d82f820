// Real checkpoints, written by Megatron: their plans against the Hugging Face directories that Megatron's own tools
// made of them.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/error.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/plan/inspection.h"
#include "worker/engine/write/safetensors.h"

namespace slipway::engine {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

std::vector<fs::path> Fixtures() {
  std::vector<fs::path> fixtures;
  for (const auto& entry : fs::directory_iterator(fs::path(SLIPWAY_TEST_DATA) / "checkpoints")) {
    if (fs::exists(entry.path() / "golden_hf" / "config.json")) {
      fixtures.push_back(entry.path());
    }
  }
  return fixtures;
}

// What nothing in the checkpoint tells from another family.
const std::map<std::string, std::string> kNamed = {
    {"mistral_tp1_pp1_fp16_torch_dist", "MistralForCausalLM"},
    {"derived_glm4_moe_lite", "Glm4MoeLiteForCausalLM"},
    {"derived_phi3", "Phi3ForCausalLM"},
    {"derived_qwen3_5_moe", "Qwen3_5MoeForCausalLM"},
};
// What has settings that Megatron's arguments do not know.
const std::set<std::string> kWithConfig = {"derived_nemotron_h_latent",
                                           "derived_gemma",
                                           "derived_gemma2",
                                           "derived_falcon",
                                           "gemma3_tp2_pp1_torch_dist",
                                           "gpt-oss_tp1_pp1_torch_dist",
                                           "derived_qwen2_5_vl",
                                           "qwen25-vl_tp2_pp1_torch_dist",
                                           "qwen3-vl_tp2_pp1_torch_dist",
                                           "derived_qwen3_vl_moe"};

std::shared_ptr<const ExportPlan> PlanOf(const fs::path& fixture) {
  ExportOptions options;
  options.checkpoint = fixture.string();
  if (const auto named = kNamed.find(fixture.filename().string()); named != kNamed.end()) {
    options.architecture = named->second;
  }
  if (kWithConfig.contains(fixture.filename().string())) {
    options.hf_config = (fixture / "golden_hf").string();
  }
  auto plan = MakePlan(options);
  EXPECT_TRUE(plan.ok()) << fixture << ": " << Describe(plan.status());
  return plan.ok() ? *plan : nullptr;
}

using Tensors = std::map<std::string, std::pair<DType, Shape>>;

TEST(Fixtures, PlansHaveTheTensorsOfTheGoldenDirectories) {
  ASSERT_FALSE(Fixtures().empty());
  for (const fs::path& fixture : Fixtures()) {
    const auto plan = PlanOf(fixture);
    ASSERT_NE(plan, nullptr);
    // Megatron-FSDP stores the optimizer's FP32 weights; an export has params_dtype.
    const bool has_main_weights = fixture.filename().string().starts_with("fsdp");
    Tensors planned;
    for (const OutputTensor& tensor : plan->tensors) {
      planned[tensor.name] = {tensor.dtype, tensor.shape};
      // Stored minus 1, as all norms of the family, but an ordinary one there.
      const bool is_shifted = tensor.name.ends_with("linear_attn.norm.weight");
      EXPECT_EQ(tensor.transform.IsCopy(), !has_main_weights && !is_shifted) << tensor.name;
    }
    const auto directory = OpenLocalDirectory((fixture / "golden_hf").string());
    ASSERT_TRUE(directory.ok());
    const auto file = (*directory)->Open("model.safetensors");
    ASSERT_TRUE(file.ok()) << Describe(file.status());
    const auto header = ReadSafetensorsHeader(**file);
    ASSERT_TRUE(header.ok()) << Describe(header.status());
    Tensors golden;
    for (const SafetensorsEntry& entry : header->entries) {
      golden[entry.name] = {entry.dtype, entry.shape};
    }
    EXPECT_EQ(planned, golden) << fixture;
  }
}

// The rotary settings in one spelling, and no fields that weights do not tell.
json Comparable(json config) {
  json rope = config.value("rope_parameters", json::object());
  if (config.contains("rope_scaling") && config["rope_scaling"].is_object()) {
    rope.update(config["rope_scaling"]);
  }
  if (config.contains("rope_theta")) {
    rope["rope_theta"] = config["rope_theta"];
  }
  if (rope.contains("type")) {  // as it was called before
    rope["rope_type"] = rope["type"];
    rope.erase("type");
  }
  rope.emplace("rope_type", "default");
  if (config.contains("torch_dtype")) {
    config["dtype"] = config["torch_dtype"];
  }
  for (const char* field : {"rope_parameters", "rope_scaling", "rope_theta", "torch_dtype", "bos_token_id",
                            "eos_token_id", "pad_token_id", "transformers_version", "initializer_range"}) {
    config.erase(field);
  }
  config["rope"] = std::move(rope);
  return config;
}

TEST(Fixtures, ConfigsSayWhatTheGoldenOnesSay) {
  const json defaults = json::parse(std::ifstream(fs::path(SLIPWAY_TEST_DATA) / "transformers_defaults.json"));
  // What transformers makes of other fields itself.
  const std::set<std::string> computed_for_latent_attention = {"head_dim", "qk_head_dim", "layer_types",
                                                               "indexer_types"};
  for (const fs::path& fixture : Fixtures()) {
    const auto plan = PlanOf(fixture);
    ASSERT_NE(plan, nullptr);
    ASSERT_EQ(plan->texts.front().path, "config.json");
    const json ours = Comparable(json::parse(plan->texts.front().content));
    const json golden = Comparable(json::parse(std::ifstream(fixture / "golden_hf" / "config.json")));
    for (const auto& [key, value] : golden.items()) {
      if (!(golden.contains("kv_lora_rank") && computed_for_latent_attention.contains(key))) {
        const json assumed = defaults.at(golden["model_type"]).value(key, json());
        EXPECT_EQ(ours.value(key, assumed), value) << fixture << ": " << key;
      }
    }
  }
}

TEST(Fixtures, OneModelInTwoFormatsHasOneOutput) {
  const fs::path checkpoints = fs::path(SLIPWAY_TEST_DATA) / "checkpoints";
  const auto legacy = PlanOf(checkpoints / "llama3_tp2_pp2_torch");
  const auto distributed = PlanOf(checkpoints / "llama3_tp2_pp2_torch_dist");
  ASSERT_NE(legacy, nullptr);
  ASSERT_NE(distributed, nullptr);
  EXPECT_EQ(legacy->output_hash, distributed->output_hash);
  EXPECT_NE(legacy->hash, distributed->hash);
}

TEST(Fixtures, MainWeightsOfFsdpAndBridgesOwnDirectoryHaveOneOutput) {
  const fs::path checkpoints = fs::path(SLIPWAY_TEST_DATA) / "checkpoints";
  const auto fsdp = PlanOf(checkpoints / "fsdp-dtensor_llama3_dp3");
  const auto bridge = PlanOf(checkpoints / "bridge-native_llama3_tp2_pp1");
  ASSERT_NE(fsdp, nullptr);
  ASSERT_NE(bridge, nullptr);
  EXPECT_EQ(fsdp->output_hash, bridge->output_hash);
  EXPECT_NE(fsdp->hash, bridge->hash);
}

TEST(Fixtures, AnInspectionDescribesTheModelWithoutProblems) {
  for (const fs::path& fixture : Fixtures()) {
    const auto inspection = Inspect({.checkpoint = fixture.string(), .iteration = {}, .tensors = true});
    ASSERT_TRUE(inspection.ok()) << Describe(inspection.status());
    for (const auto& problem : (*inspection)["problems"]) {
      EXPECT_TRUE(kWithConfig.contains(fixture.filename().string()) &&
                  problem.get<std::string>().find("--hf-config") != std::string::npos)
          << fixture << ": " << problem;
    }
    EXPECT_TRUE((*inspection)["architecture"].is_string() || !(*inspection)["problems"].empty());
    EXPECT_EQ((*inspection)["tensors"].size(), (*inspection)["tensor_count"]);
    EXPECT_GT((*inspection)["parameters"], 0);
  }
}

}  // namespace
}  // namespace slipway::engine
