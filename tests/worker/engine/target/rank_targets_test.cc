#include "worker/engine/target/rank_targets.h"

#include <gtest/gtest.h>

#include "common/vocabulary.h"

namespace slipway::engine {
namespace {

TEST(RankTargets, TheTableHasTheTargetsThatTheWordsSayHaveRanks) {
  for (const Word& target : Targets()) {
    EXPECT_EQ(FindRankTarget(target.name) != nullptr, HasRanks(target.name)) << target.name;
  }
}

}  // namespace
}  // namespace slipway::engine
