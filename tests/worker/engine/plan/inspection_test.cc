// What an inspection says of models of several kinds, against sizes computed here.
#include "worker/engine/plan/inspection.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/experts_checkpoint.h"
#include "tests/support/temporary_directory.h"

namespace slipway::engine {
namespace {

using nlohmann::ordered_json;

test::ExpertsCheckpoint Small() {
  test::ExpertsCheckpoint checkpoint = test::TinyExpertsOf({});
  checkpoint.layers = 5;
  checkpoint.dense_layers = 2;
  checkpoint.experts = 6;
  checkpoint.active_experts = 2;
  checkpoint.expert_ranks = 3;
  return checkpoint;
}

ordered_json InspectionOf(const test::ExpertsCheckpoint& checkpoint, bool tensors = false) {
  const test::TemporaryDirectory directory;
  test::WriteExpertsCheckpoint(directory.path(), checkpoint);
  const auto inspection = Inspect({.checkpoint = directory.path(), .iteration = {}, .tensors = tensors});
  EXPECT_TRUE(inspection.ok()) << Describe(inspection.status());
  return inspection.ok() ? *inspection : ordered_json();
}

// By the shapes of DeepSeek-V3's modules, with `experts` of them in each layer.
std::int64_t Parameters(const test::ExpertsCheckpoint& c, std::int64_t experts) {
  const std::int64_t attention = c.query_rank * (c.hidden + 1) + c.query_rank * c.heads * (c.nope + c.rope) +
                                 (c.key_value_rank + c.rope) * c.hidden + c.key_value_rank +
                                 c.key_value_rank * c.heads * (c.nope + c.value) + c.heads * c.value * c.hidden;
  const std::int64_t norms = 2 * c.hidden;
  const std::int64_t dense = 3 * c.hidden * c.dense_ffn;
  const std::int64_t router = c.experts * (c.hidden + 1);
  const std::int64_t sparse = router + (experts + c.shared_experts) * 3 * c.hidden * c.expert_ffn;
  return 2 * c.vocabulary * c.hidden + c.hidden + c.layers * (attention + norms) + c.dense_layers * dense +
         (c.layers - c.dense_layers) * sparse;
}

TEST(Inspection, ParametersAreCountedAndOfThoseTheActiveOnes) {
  const test::ExpertsCheckpoint checkpoint = Small();
  const ordered_json inspection = InspectionOf(checkpoint);
  EXPECT_EQ(inspection["parameters"], Parameters(checkpoint, checkpoint.experts));
  EXPECT_EQ(inspection["active_parameters"], Parameters(checkpoint, checkpoint.active_experts));
}

TEST(Inspection, ATrillionParametersOfWhichKimisThirtyTwoBillionAreActive) {
  const ordered_json inspection = InspectionOf({});
  EXPECT_EQ(inspection["parameters"], Parameters({}, 384));
  EXPECT_EQ(inspection["parameters"].get<std::int64_t>() / 1'000'000'000, 1'026);
  EXPECT_EQ(inspection["active_parameters"].get<std::int64_t>() / 1'000'000'000, 32);
  EXPECT_TRUE(inspection["problems"].empty()) << inspection["problems"];
  EXPECT_GT(inspection["piece_count"], 100'000);
}

TEST(Inspection, ExpertsAndLatentAttentionHaveTheirSizes) {
  const ordered_json configuration = InspectionOf(Small())["configuration"];
  EXPECT_EQ(configuration["layer_counts"]["dense"], 2);
  EXPECT_EQ(configuration["layer_counts"]["experts"], 3);
  EXPECT_EQ(configuration["experts"]["count"], 6);
  EXPECT_EQ(configuration["experts"]["active"], 2);
  EXPECT_EQ(configuration["experts"]["shared"], 1);
  EXPECT_EQ(configuration["latent_attention"]["query_rank"], 8);
  EXPECT_EQ(configuration["latent_attention"]["rope_dimension"], 2);
  EXPECT_EQ(configuration["layer_pattern"], nullptr);
  EXPECT_EQ(configuration["mamba"], nullptr);
}

TEST(Inspection, FamiliesThatFitAsWellAreNamed) {
  const ordered_json inspection = InspectionOf(Small());
  EXPECT_EQ(inspection["architecture"], "DeepseekV3ForCausalLM");
  EXPECT_EQ(inspection["alternatives"], ordered_json::array({"Glm4MoeLiteForCausalLM"}));
}

TEST(Inspection, TensorsAreListedOnlyIfAskedFor) {
  EXPECT_FALSE(InspectionOf(Small()).contains("tensors"));
  const ordered_json inspection = InspectionOf(Small(), /*tensors=*/true);
  ASSERT_EQ(inspection["tensors"].size(), inspection["tensor_count"]);
  std::int64_t pieces = 0;
  for (const ordered_json& tensor : inspection["tensors"]) {
    pieces += tensor["pieces"].get<std::int64_t>();
  }
  EXPECT_EQ(inspection["piece_count"], pieces);
}

TEST(Inspection, HybridLayersAreCountedAndSpelledOut) {
  const auto fixture = std::filesystem::path(SLIPWAY_TEST_DATA) / "checkpoints" / "derived_nemotron_h_latent";
  const auto inspection =
      Inspect({.checkpoint = fixture.string(), .iteration = {}, .hf_config = (fixture / "golden_hf").string()});
  ASSERT_TRUE(inspection.ok()) << Describe(inspection.status());
  const ordered_json& configuration = (*inspection)["configuration"];
  const auto golden = ordered_json::parse(std::ifstream(fixture / "golden_hf" / "config.json"));
  const std::map<std::string, char> letters = {
      {"linear_attention", 'M'}, {"full_attention", '*'}, {"mlp", '-'}, {"moe", 'E'}};
  std::string pattern;
  for (const auto& kind : golden.at("layers_block_type")) {
    pattern += letters.at(kind.get<std::string>());
  }
  EXPECT_EQ(configuration.at("layer_pattern"), pattern);
  EXPECT_EQ(configuration.at("mamba").at("heads"), golden.at("mamba_num_heads"));
}

TEST(Inspection, AProblemComesWithAdvice) {
  const test::TemporaryDirectory directory;
  test::ExpertsCheckpoint checkpoint = Small();
  test::WriteExpertsCheckpoint(directory.path(), checkpoint);
  std::filesystem::remove(std::filesystem::path(directory.path()) / "iter_0000100" / "common.pt");
  const auto inspection = Inspect({.checkpoint = directory.path(), .iteration = {}});
  ASSERT_TRUE(inspection.ok()) << Describe(inspection.status());
  ASSERT_EQ((*inspection)["problems"].size(), 1U);
  EXPECT_EQ((*inspection)["advice"][0], InfoOf(Reason::kConfigurationInvalid).advice);
  EXPECT_EQ((*inspection)["active_parameters"], nullptr);
}

}  // namespace
}  // namespace slipway::engine
