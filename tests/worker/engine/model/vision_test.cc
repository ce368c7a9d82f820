// Models that see: what their config.json must say, and what of it is taken.
#include <filesystem>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "tests/support/temporary_directory.h"
#include "worker/engine/plan/make_plan.h"

namespace slipway::engine {
namespace {

using nlohmann::json;
using testing::HasSubstr;
namespace fs = std::filesystem;

fs::path Fixture(const std::string& name) { return fs::path(SLIPWAY_TEST_DATA) / "checkpoints" / name; }

json GoldenConfig(const std::string& name) {
  return json::parse(std::ifstream(Fixture(name) / "golden_hf" / "config.json"));
}

absl::StatusOr<std::shared_ptr<const ExportPlan>> PlanWith(const std::string& name, const json& config,
                                                           const std::string& architecture = {}) {
  const test::TemporaryDirectory directory;
  std::ofstream(fs::path(directory.path()) / "config.json") << config;
  ExportOptions options;
  options.checkpoint = Fixture(name).string();
  options.hf_config = directory.path();
  options.architecture = architecture;
  return MakePlan(options);
}

TEST(Vision, WithoutAConfigOneIsAskedFor) {
  for (const char* name : {"derived_qwen2_5_vl", "qwen3-vl_tp2_pp1_torch_dist", "derived_qwen3_vl_moe"}) {
    ExportOptions options;
    options.checkpoint = Fixture(name).string();
    const auto plan = MakePlan(options);
    ASSERT_FALSE(plan.ok()) << name;
    EXPECT_THAT(Describe(plan.status()), HasSubstr("--hf-config")) << name;
  }
}

TEST(Vision, OlderConfigsTellOfTheTextBesideTheTower) {
  json config = GoldenConfig("derived_qwen2_5_vl");
  json text = config["text_config"];
  config.erase("text_config");
  text.erase("model_type");
  text.update(config);
  text["vision_config"]["in_chans"] = text["vision_config"]["in_channels"];
  text["vision_config"].erase("in_channels");
  const auto plan = PlanWith("derived_qwen2_5_vl", text);
  ASSERT_TRUE(plan.ok()) << Describe(plan.status());
  EXPECT_EQ((*plan)->architecture, "Qwen2_5_VLForConditionalGeneration");
}

TEST(Vision, AConfigOfTheTextAloneIsRefused) {
  const json text = GoldenConfig("qwen3-vl_tp2_pp1_torch_dist")["text_config"];
  const auto plan = PlanWith("qwen3-vl_tp2_pp1_torch_dist", text, "Qwen3ForCausalLM");
  ASSERT_FALSE(plan.ok());
  EXPECT_THAT(Describe(plan.status()), HasSubstr("with a vision tower"));
}

TEST(Vision, ATowerOfOtherSizesIsRefused) {
  for (const char* field : {"depth", "hidden_size", "intermediate_size", "patch_size", "out_hidden_size",
                            "spatial_merge_size", "num_position_embeddings", "in_channels", "temporal_patch_size"}) {
    json config = GoldenConfig("qwen3-vl_tp2_pp1_torch_dist");
    config["vision_config"][field] = config["vision_config"][field].get<int>() * 2;
    EXPECT_FALSE(PlanWith("qwen3-vl_tp2_pp1_torch_dist", config).ok()) << field;
    config["vision_config"].erase(field);
    EXPECT_FALSE(PlanWith("qwen3-vl_tp2_pp1_torch_dist", config).ok()) << field;
  }
}

TEST(Vision, NumbersBeyondAllTowersAreRefusedByName) {
  json config = GoldenConfig("qwen3-vl_tp2_pp1_torch_dist");
  config["vision_config"]["depth"] = std::int64_t{1} << 39;
  const auto deep = PlanWith("qwen3-vl_tp2_pp1_torch_dist", config);
  ASSERT_FALSE(deep.ok());
  EXPECT_THAT(Describe(deep.status()), HasSubstr("vision_config: depth"));
  config = GoldenConfig("qwen3-vl_tp2_pp1_torch_dist");
  config["vision_config"].erase("deepstack_visual_indexes");
  EXPECT_FALSE(PlanWith("qwen3-vl_tp2_pp1_torch_dist", config).ok());
  config = GoldenConfig("qwen3-vl_tp2_pp1_torch_dist");
  config["vision_config"]["num_heads"] = 3;  // does not divide the width
  EXPECT_FALSE(PlanWith("qwen3-vl_tp2_pp1_torch_dist", config).ok());
}

TEST(Vision, TheDTypeIsSaidInEveryPartThatStatesIt) {
  json config = GoldenConfig("qwen3-vl_tp2_pp1_torch_dist");
  config["text_config"]["dtype"] = "float32";
  config["vision_config"]["torch_dtype"] = "float32";
  const auto plan = PlanWith("qwen3-vl_tp2_pp1_torch_dist", config);
  ASSERT_TRUE(plan.ok()) << Describe(plan.status());
  const json written = json::parse((*plan)->texts.front().content);
  EXPECT_EQ(written["dtype"], "bfloat16");
  EXPECT_EQ(written["text_config"]["dtype"], "bfloat16");
  EXPECT_EQ(written["vision_config"]["torch_dtype"], "bfloat16");
}

}  // namespace
}  // namespace slipway::engine
