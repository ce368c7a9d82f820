#include "worker/engine/checkpoint/legacy_grid.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"

namespace slipway::engine {
namespace {

using testing::ElementsAre;

std::vector<RankPath> Paths(const std::vector<std::string>& directories) {
  std::vector<RankPath> paths;
  paths.reserve(directories.size());
  for (const std::string& directory : directories) {
    paths.push_back({*ParseRankDirectory(directory), directory});
  }
  return paths;
}

TEST(LegacyGrid, DirectoryNamesAreNumbers) {
  EXPECT_EQ(ParseRankDirectory("mp_rank_07")->tensor, 7);
  EXPECT_EQ(ParseRankDirectory("mp_rank_01_002")->second, 2);
  EXPECT_EQ(ParseRankDirectory("mp_rank_01_002_003")->third, 3);
  for (const char* name : {"mp_rank_", "mp_rank_1_", "mp_rank_1_2_3_4", "mp_rank_x", "mp_rank_99999999999999999999"}) {
    EXPECT_FALSE(ParseRankDirectory(name)) << name;
  }
}

TEST(LegacyGrid, TheSecondNumberIsAnExpertRankWhereTheArgumentsSaySo) {
  const auto paths = Paths({"mp_rank_00_000", "mp_rank_00_001"});
  const auto experts = LayOutRanks(paths, {.tensor = 1, .pipeline = 1, .expert = 2, .expert_tensor = 1});
  ASSERT_TRUE(experts.ok()) << Describe(experts.status());
  EXPECT_EQ(experts->expert, 2);
  EXPECT_EQ(experts->pipeline, 1);
  const auto stages = LayOutRanks(paths, {.tensor = 1, .pipeline = 2});
  ASSERT_TRUE(stages.ok()) << Describe(stages.status());
  EXPECT_EQ(stages->pipeline, 2);
  EXPECT_EQ(stages->stage_ranks, 1);
}

TEST(LegacyGrid, ExpertsFoldedOverTensorRanksHaveOneFileEach) {
  const ParallelLayout layout = {.tensor = 2, .pipeline = 1, .expert = 4, .expert_tensor = 1};
  const auto grid =
      LayOutRanks(Paths({"mp_rank_00_000", "mp_rank_00_002", "mp_rank_01_001", "mp_rank_01_003"}), layout);
  ASSERT_TRUE(grid.ok()) << Describe(grid.status());
  EXPECT_THAT(grid->files, ElementsAre("mp_rank_00_000", "mp_rank_01_001", "mp_rank_00_002", "mp_rank_01_003"));
}

TEST(LegacyGrid, MoreTensorRanksThanExpertRanksHoldCopiesOfExperts) {
  const ParallelLayout layout = {.tensor = 4, .pipeline = 1, .expert = 2, .expert_tensor = 1};
  const auto grid =
      LayOutRanks(Paths({"mp_rank_00_000", "mp_rank_01_001", "mp_rank_02_000", "mp_rank_03_001"}), layout);
  ASSERT_TRUE(grid.ok()) << Describe(grid.status());
  EXPECT_EQ(grid->stage_ranks, 4);
}

TEST(LegacyGrid, StagesComeBeforeExpertsInADirectorysName) {
  const ParallelLayout layout = {.tensor = 1, .pipeline = 2, .expert = 2, .expert_tensor = 1};
  const auto grid = LayOutRanks(
      Paths({"mp_rank_00_000_000", "mp_rank_00_000_001", "mp_rank_00_001_000", "mp_rank_00_001_001"}), layout);
  ASSERT_TRUE(grid.ok()) << Describe(grid.status());
  EXPECT_THAT(grid->files,
              ElementsAre("mp_rank_00_000_000", "mp_rank_00_000_001", "mp_rank_00_001_000", "mp_rank_00_001_001"));
}

TEST(LegacyGrid, AMissingExpertRankIsNamed) {
  const ParallelLayout layout = {.tensor = 2, .pipeline = 2, .expert = 2, .expert_tensor = 1};
  const auto grid = LayOutRanks(Paths({"mp_rank_00_000_000", "mp_rank_01_000_001", "mp_rank_00_001_000"}), layout);
  EXPECT_EQ(ReasonOf(grid.status()), Reason::kCheckpointCorrupt);
  EXPECT_EQ(WhereOf(grid.status()).file, "mp_rank_01_001_001");
}

TEST(LegacyGrid, ARankThatTheArgumentsDoNotKnowIsRefusedByName) {
  const ParallelLayout layout = {.tensor = 1, .pipeline = 1, .expert = 2, .expert_tensor = 1};
  const auto grid = LayOutRanks(Paths({"mp_rank_00_000", "mp_rank_00_001", "mp_rank_00_002"}), layout);
  EXPECT_EQ(ReasonOf(grid.status()), Reason::kCheckpointCorrupt);
  EXPECT_EQ(WhereOf(grid.status()).file, "mp_rank_00_002");
}

TEST(LegacyGrid, RanksThatWroteTheSameFileAreRefused) {
  const ParallelLayout layout = {.tensor = 1, .pipeline = 1, .expert = 2, .expert_tensor = 2};
  EXPECT_EQ(ReasonOf(LayOutRanks(Paths({"mp_rank_00_000", "mp_rank_00_001"}), layout).status()),
            Reason::kCheckpointUnsupported);
}

TEST(LegacyGrid, HugeSizesEndAtTheFirstMissingRankOrTheLimit) {
  const ParallelLayout wide = {.tensor = 65'536, .pipeline = 65'536, .expert = 65'536, .expert_tensor = 65'536};
  EXPECT_EQ(ReasonOf(LayOutRanks(Paths({"mp_rank_00_000_000"}), wide).status()), Reason::kCheckpointCorrupt);
  const ParallelLayout wider = {.tensor = std::int64_t{1} << 62};
  EXPECT_EQ(ReasonOf(LayOutRanks(Paths({"mp_rank_00"}), wider).status()), Reason::kLimitExceeded);
}

}  // namespace
}  // namespace slipway::engine
