#include "worker/engine/checkpoint/iteration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/temporary_directory.h"

namespace slipway::engine {
namespace {

constexpr const char* kTracker = "latest_checkpointed_iteration.txt";

class Iteration : public testing::Test {
 protected:
  void SetUp() override {
    root_.Write("iter_0000100/metadata.json", "{}");
    root_.Write("iter_0000200/metadata.json", "{}");
    root_.Write("release/metadata.json", "{}");
  }
  test::TemporaryDirectory root_;
};

TEST_F(Iteration, TheTrackerDecides) {
  root_.Write(kTracker, " 100\n");
  const auto found = FindIteration(root_.path(), {});
  ASSERT_TRUE(found.ok()) << Describe(found.status());
  EXPECT_EQ(found->iteration, 100);
  EXPECT_EQ(found->directory->path(), root_ / "iter_0000100");
  EXPECT_EQ(found->root->path(), root_.path());
}

TEST_F(Iteration, ReleaseIsADirectoryOfItsOwn) {
  root_.Write(kTracker, "release");
  const auto found = FindIteration(root_.path(), {});
  ASSERT_TRUE(found.ok()) << Describe(found.status());
  EXPECT_TRUE(found->release);
  EXPECT_EQ(found->directory->path(), root_ / "release");
}

TEST_F(Iteration, AnAskedForOneWinsOverTheTracker) {
  root_.Write(kTracker, "100");
  EXPECT_EQ(FindIteration(root_.path(), {.iteration = 200})->iteration, 200);
}

TEST_F(Iteration, TheLargestWithoutATracker) { EXPECT_EQ(FindIteration(root_.path(), {})->iteration, 200); }

TEST_F(Iteration, ItsOwnDirectoryIsTakenAsItIs) {
  const auto found = FindIteration(root_ / "iter_0000100", {});
  ASSERT_TRUE(found.ok()) << Describe(found.status());
  EXPECT_EQ(found->iteration, 100);
  EXPECT_EQ(ReasonOf(FindIteration(root_ / "iter_0000100", {.iteration = 7}).status()), Reason::kCheckpointNotFound);
}

TEST_F(Iteration, AMissingOneIsNamedWithThoseThatExist) {
  const absl::Status status = FindIteration(root_.path(), {.iteration = 7}).status();
  EXPECT_EQ(ReasonOf(status), Reason::kCheckpointNotFound);
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(testing::HasSubstr("iter_0000007"), testing::HasSubstr("200, 100")));
}

TEST_F(Iteration, ATrackerOfNonsenseIsCorrupt) {
  for (const char* content : {"", "-1", "1e3", "../..", "99999999999999999999"}) {
    root_.Write(kTracker, content);
    EXPECT_EQ(ReasonOf(FindIteration(root_.path(), {}).status()), Reason::kCheckpointCorrupt) << content;
  }
}

}  // namespace
}  // namespace slipway::engine
