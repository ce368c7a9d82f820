#include "worker/engine/checkpoint/legacy.h"

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/brute_force.h"
#include "tests/support/legacy_directory.h"

namespace slipway::engine {
namespace {

using test::LegacyDirectory;

std::string Fixture(const std::string& name) { return std::string(SLIPWAY_TEST_DATA) + "/" + name; }

class LegacyFixture : public testing::TestWithParam<const char*> {};

TEST_P(LegacyFixture, AssembledElementByElementIsItsIndependentGolden) {
  const std::string fixture = Fixture(GetParam());
  const auto checkpoint = LegacyDirectory::Read(fixture + "/iter_0000100");
  ASSERT_TRUE(checkpoint.ok()) << Describe(checkpoint.status());
  EXPECT_EQ(test::CompareWithGolden(**checkpoint, fixture + "/golden_hf"), "");
}

INSTANTIATE_TEST_SUITE_P(Layouts, LegacyFixture,
                         testing::Values("checkpoints/llama3_tp2_pp2_torch", "checkpoints/qwen25_tp1_pp2_vpp2_torch",
                                         "checkpoints/legacy-v0_llama2_tp2", "checkpoints/legacy-v1.0_llama2_tp2",
                                         "checkpoints/custom-pp-layout_llama3_pp2_vpp2_torch",
                                         "layouts/deepseek-v3_tp2_pp1_ep2_etp1_grouped_torch"),
                         [](const auto& fixture) {
                           std::string name = fixture.param;
                           for (char& c : name) {
                             c = c == '-' || c == '.' || c == '/' ? '_' : c;
                           }
                           return name;
                         });

TEST_F(LegacyDirectory, TensorsThatAreNotContiguousKeepTheirOrder) {
  Write("mp_rank_00", {{"output_layer.weight", {.shape = {3, 2}, .strides = {1, 3}, .offset = 1, .storage = 8}}}, {});
  EXPECT_EQ(Bytes("output_layer.weight"), std::string("\1\4\2\5\3\6"));
}

TEST_F(LegacyDirectory, ColumnsOfTwoRanksLieSideBySide) {
  const std::map<std::string, std::int64_t> arguments = {{"tensor_model_parallel_size", 2}};
  const Model model = {{"decoder.layers.0.self_attention.linear_proj.weight", {.shape = {2, 2}}}};
  Write("mp_rank_00", model, arguments);
  Write("mp_rank_01", model, arguments);
  EXPECT_EQ(Bytes("decoder.layers.0.self_attention.linear_proj.weight"), std::string("\0\1\0\1\2\3\2\3", 8));
}

TEST_F(LegacyDirectory, GatesOfAllRanksComeBeforeUpsOfAllRanks) {
  const std::map<std::string, std::int64_t> arguments = {{"tensor_model_parallel_size", 2}};
  const Model model = {{"decoder.layers.0.mlp.linear_fc1.weight", {.shape = {4, 1}}},
                       {"decoder.layers.0.mlp.linear_fc2.weight", {.shape = {1, 2}}}};
  Write("mp_rank_00", model, arguments);
  Write("mp_rank_01", model, arguments);
  EXPECT_EQ(Bytes("decoder.layers.0.mlp.linear_fc1.weight"), std::string("\0\1\0\1\2\3\2\3", 8));
}

TEST_F(LegacyDirectory, AMissingRankIsNamed) {
  Write("mp_rank_00_000", {{"output_layer.weight", {.shape = {2, 2}}}},
        {{"tensor_model_parallel_size", 2}, {"pipeline_model_parallel_size", 1}});
  EXPECT_EQ(ReasonOf(Refusal()), Reason::kCheckpointCorrupt);
  EXPECT_EQ(WhereOf(Refusal()).file, "mp_rank_01");
}

TEST_F(LegacyDirectory, RanksOfDifferentShapesAreRefusedNamingFileAndTensor) {
  const std::map<std::string, std::int64_t> arguments = {{"tensor_model_parallel_size", 2}};
  Write("mp_rank_00", {{"output_layer.weight", {.shape = {2, 2}}}}, arguments);
  Write("mp_rank_01", {{"output_layer.weight", {.shape = {2, 3}}}}, arguments);
  EXPECT_EQ(ReasonOf(Refusal()), Reason::kTensorShapeMismatch);
  EXPECT_EQ(WhereOf(Refusal()).tensor, "output_layer.weight");
  EXPECT_EQ(WhereOf(Refusal()).file, "mp_rank_01/model_optim_rng.pt");
}

TEST_F(LegacyDirectory, ATensorThatOneRankLacksIsRefused) {
  const std::map<std::string, std::int64_t> arguments = {{"tensor_model_parallel_size", 2}};
  Write("mp_rank_00", {{"output_layer.weight", {.shape = {2, 2}}}}, arguments);
  Write("mp_rank_01", {}, arguments);
  EXPECT_EQ(ReasonOf(Refusal()), Reason::kCheckpointCorrupt);
  EXPECT_EQ(WhereOf(Refusal()).tensor, "output_layer.weight");
}

TEST_F(LegacyDirectory, FewerLayersThanTheArgumentsSayAreRefused) {
  Write("mp_rank_00", {{"decoder.layers.0.input_layernorm.weight", {.shape = {2}}}}, {{"num_layers", 2}});
  EXPECT_EQ(ReasonOf(Refusal()), Reason::kCheckpointCorrupt);
}

TEST_F(LegacyDirectory, AGapBetweenLayersIsRefused) {
  Write("mp_rank_00",
        {{"decoder.layers.0.input_layernorm.weight", {.shape = {2}}},
         {"decoder.layers.2.input_layernorm.weight", {.shape = {2}}}},
        {});
  EXPECT_EQ(ReasonOf(Refusal()), Reason::kCheckpointCorrupt);
}

TEST_F(LegacyDirectory, AViewThatLeavesItsStorageIsRefused) {
  Write("mp_rank_00", {{"output_layer.weight", {.shape = {3, 3}, .strides = {}, .offset = 0, .storage = 8}}}, {});
  EXPECT_EQ(ReasonOf(Refusal()), Reason::kCheckpointCorrupt);
  EXPECT_EQ(WhereOf(Refusal()).tensor, "output_layer.weight");
}

TEST_F(LegacyDirectory, ATensorWhoseSharingIsNotKnownIsNotGuessed) {
  const std::map<std::string, std::int64_t> arguments = {{"tensor_model_parallel_size", 2}};
  Write("mp_rank_00", {{"decoder.layers.0.mystery.weight", {.shape = {2}}}}, arguments);
  Write("mp_rank_01", {{"decoder.layers.0.mystery.weight", {.shape = {2}}}}, arguments);
  EXPECT_EQ(ReasonOf(Refusal()), Reason::kTensorUnknown);
}

TEST_F(LegacyDirectory, ATruncatedRankFileIsRefusedByName) {
  Write("mp_rank_00", {{"output_layer.weight", {.shape = {2, 2}}}}, {});
  const auto file = path_ / "mp_rank_00/model_optim_rng.pt";
  std::filesystem::resize_file(file, std::filesystem::file_size(file) / 2);
  EXPECT_FALSE(Refusal().ok());
  EXPECT_THAT(WhereOf(Refusal()).file, testing::EndsWith("mp_rank_00/model_optim_rng.pt"));
}

}  // namespace
}  // namespace slipway::engine
