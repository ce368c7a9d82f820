#include "worker/plan_cache.h"

#include <atomic>
#include <chrono>
#include <latch>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "common/error.h"

namespace slipway::worker {
namespace {

class PlanCacheTest : public ::testing::Test {
 protected:
  PlanSource Source() {
    return {
        .make = [this](const engine::ExportOptions&, const engine::PlanProgress&) -> absl::StatusOr<PlanCache::Plan> {
          ++made_;
          auto plan = std::make_shared<engine::ExportPlan>();
          plan->hash = hash_;
          return plan;
        },
        .check_unchanged = [this](const engine::ExportPlan&) { return unchanged_; }};
  }

  std::string hash_ = "h1";
  absl::Status unchanged_;
  int made_ = 0;
  PlanCache cache_{Source(), 2};
  const engine::ExportOptions options_{};
};

TEST_F(PlanCacheTest, AnUnchangedPlanIsMadeOnce) {
  ASSERT_TRUE(cache_.Make("a", options_).ok());
  EXPECT_TRUE(cache_.Find("a", options_, "h1").ok());
  EXPECT_TRUE(cache_.Find("a", options_, "h1").ok());
  EXPECT_EQ(made_, 1);
}

TEST_F(PlanCacheTest, AWorkerThatDidNotPlanMakesThePlanItself) {
  EXPECT_TRUE(cache_.Find("a", options_, "h1").ok());
  EXPECT_EQ(made_, 1);
}

TEST_F(PlanCacheTest, PlanningAgainNeverTakesTheKeptPlan) {
  ASSERT_TRUE(cache_.Make("a", options_).ok());
  hash_ = "h2";
  EXPECT_EQ(cache_.Make("a", options_).value()->hash, "h2");
}

TEST_F(PlanCacheTest, AChangedSourceIsPlannedAgainAndNamedIfThePlanDiffers) {
  ASSERT_TRUE(cache_.Make("a", options_).ok());
  unchanged_ = Error(Reason::kCheckpointChanged, "changed", Where{.file = "__0_0.distcp"});
  hash_ = "h2";
  const auto plan = cache_.Find("a", options_, "h1");
  EXPECT_EQ(made_, 2);
  EXPECT_EQ(ReasonOf(plan.status()), Reason::kCheckpointChanged);
  EXPECT_EQ(WhereOf(plan.status()).file, "__0_0.distcp");
}

TEST_F(PlanCacheTest, AChangedSourceThatGivesTheSamePlanIsNoError) {
  ASSERT_TRUE(cache_.Make("a", options_).ok());
  unchanged_ = Error(Reason::kCheckpointChanged, "changed");
  EXPECT_TRUE(cache_.Find("a", options_, "h1").ok());
  EXPECT_EQ(made_, 2);
}

TEST_F(PlanCacheTest, AnotherPlanThanTheAcceptedOneIsAMismatchThatNamesBoth) {
  const auto plan = cache_.Find("a", options_, "accepted");
  EXPECT_EQ(ReasonOf(plan.status()), Reason::kPlanMismatch);
  EXPECT_NE(std::string(plan.status().message()).find("accepted"), std::string::npos);
  EXPECT_NE(std::string(plan.status().message()).find("h1"), std::string::npos);
}

TEST_F(PlanCacheTest, TheLeastRecentlyUsedPlanGoesFirst) {
  ASSERT_TRUE(cache_.Make("a", options_).ok());
  ASSERT_TRUE(cache_.Make("b", options_).ok());
  ASSERT_TRUE(cache_.Find("a", options_, "h1").ok());
  ASSERT_TRUE(cache_.Make("c", options_).ok());
  EXPECT_EQ(made_, 3);
  ASSERT_TRUE(cache_.Find("a", options_, "h1").ok());
  EXPECT_EQ(made_, 3);
  ASSERT_TRUE(cache_.Find("b", options_, "h1").ok());
  EXPECT_EQ(made_, 4);
}

TEST_F(PlanCacheTest, AForgottenPlanIsLetGo) {
  std::weak_ptr<const engine::ExportPlan> plan = cache_.Make("a", options_).value();
  cache_.Forget("a");
  EXPECT_TRUE(plan.expired());
}

TEST(PlanCacheProgress, WhoeverWaitsForAPlanInTheMakingGetsOnWithIt) {
  std::latch making(1);
  std::atomic<bool> waiter_got_on = false;
  PlanCache cache({.make = [&](const engine::ExportOptions&,
                               const engine::PlanProgress& progress) -> absl::StatusOr<PlanCache::Plan> {
                     making.count_down();
                     while (!waiter_got_on) {
                       progress();
                       std::this_thread::sleep_for(std::chrono::milliseconds(10));
                     }
                     auto plan = std::make_shared<engine::ExportPlan>();
                     plan->hash = "h1";
                     return plan;
                   },
                   .check_unchanged = [](const engine::ExportPlan&) { return absl::OkStatus(); }});
  const engine::ExportOptions options;
  int steps = 0;
  const std::jthread maker([&] { EXPECT_TRUE(cache.Make("a", options, [&steps] { ++steps; }).ok()); });
  making.wait();
  EXPECT_TRUE(cache.Find("a", options, "h1", [&] { waiter_got_on = true; }).ok());
  EXPECT_GT(steps, 0);
}

TEST_F(PlanCacheTest, ShardsThatStartTogetherMakeThePlanOnce) {
  constexpr int kThreads = 4;
  std::latch start(kThreads);
  std::vector<std::jthread> threads;
  threads.reserve(kThreads);
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      start.arrive_and_wait();
      EXPECT_TRUE(cache_.Find("a", options_, "h1").ok());
    });
  }
  threads.clear();
  EXPECT_EQ(made_, 1);
}

}  // namespace
}  // namespace slipway::worker
