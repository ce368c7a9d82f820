#include "server/outputs.h"

#include <filesystem>

#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/temporary_directory.h"

namespace slipway::server {
namespace {

namespace fs = std::filesystem;

class OutputsTest : public testing::Test {
 protected:
  OutputsTest() {
    for (const char* name : {"artifacts", "published", "secret"}) {
      fs::create_directory(Path(name));
    }
  }
  [[nodiscard]] std::string Path(const std::string& name) const { return directory_.path() + "/" + name; }
  [[nodiscard]] Reason ReasonFor(const std::string& publish) const {
    return ReasonOf(ResolvePublishPath(publish, roots_).status());
  }

  test::TemporaryDirectory directory_;
  const OutputRoots roots_{.artifacts = Path("artifacts"), .publish = {Path("published")}, .checkpoints = {}};
};

TEST_F(OutputsTest, PathsAndFileUrisBelowARootAreTaken) {
  EXPECT_EQ(*ResolvePublishPath(Path("artifacts/model"), roots_), Path("artifacts/model"));
  EXPECT_EQ(*ResolvePublishPath("file://" + Path("published/model/"), roots_), Path("published/model"));
}

TEST_F(OutputsTest, NothingOutsideOfTheRootsIsTaken) {
  fs::create_directory_symlink(Path("secret"), Path("published/link"));
  EXPECT_EQ(ReasonFor(Path("secret/model")), Reason::kPathOutsideRoot);
  EXPECT_EQ(ReasonFor(Path("published-too/model")), Reason::kPathOutsideRoot);
  EXPECT_EQ(ReasonFor(Path("published/link/model")), Reason::kPathOutsideRoot);
  EXPECT_EQ(ReasonFor(Path("published/../secret/model")), Reason::kPathOutsideRoot);
  EXPECT_EQ(ReasonFor(Path("published")), Reason::kPathOutsideRoot) << "a root itself is no output";
}

TEST_F(OutputsTest, WhatIsNoAbsolutePathIsMalformed) {
  for (const std::string& text :
       {std::string("model"), std::string("file://model"), std::string(), std::string("s3://bucket/model"),
        Path("published/model") + std::string("\0x", 2), Path("published/none/model")}) {
    EXPECT_EQ(ReasonFor(text), Reason::kInvalidArgument) << text;
  }
}

TEST_F(OutputsTest, CheckpointRootsConfineCheckpointsWhereThereAreAny) {
  OutputRoots confined = roots_;
  confined.checkpoints = {Path("published")};
  EXPECT_TRUE(CheckCheckpointPath("/anywhere", "checkpoint", roots_).ok());
  EXPECT_TRUE(CheckCheckpointPath(Path("published/iter_1"), "checkpoint", confined).ok());
  EXPECT_EQ(ReasonOf(CheckCheckpointPath(Path("secret"), "checkpoint", confined)), Reason::kPathOutsideRoot);
  EXPECT_EQ(ReasonOf(CheckCheckpointPath("relative", "checkpoint", roots_)), Reason::kInvalidArgument);
}

TEST_F(OutputsTest, OnlyStagingOfThatOutputIsRemoved) {
  directory_.Write("artifacts/.a.slipway-0123456789abcdef/shard", "x");
  directory_.Write("artifacts/.a.slipway-0123456789abcdef.e7/shard", "x");
  directory_.Write("artifacts/.ab.slipway-0123456789abcdef/shard", "x");
  directory_.Write("artifacts/a/file", "x");
  ASSERT_TRUE(RemoveStaging(Path("artifacts/a")).ok());
  EXPECT_FALSE(fs::exists(Path("artifacts/.a.slipway-0123456789abcdef")));
  EXPECT_FALSE(fs::exists(Path("artifacts/.a.slipway-0123456789abcdef.e7")));
  EXPECT_TRUE(fs::exists(Path("artifacts/.ab.slipway-0123456789abcdef/shard")));
  EXPECT_TRUE(fs::exists(Path("artifacts/a/file")));
}

TEST_F(OutputsTest, RemovingWhatIsNotThereIsFine) {
  EXPECT_TRUE(RemoveStaging(Path("artifacts/a")).ok());
  EXPECT_TRUE(RemoveStaging(Path("none/a")).ok());
  EXPECT_TRUE(RemoveArtifact(Path("artifacts/a")).ok());
}

TEST_F(OutputsTest, RemovingAnArtifactDoesNotFollowLinks) {
  directory_.Write("secret/file", "x");
  fs::create_directory(Path("artifacts/a"));
  fs::create_directory_symlink(Path("secret"), Path("artifacts/a/link"));
  ASSERT_TRUE(RemoveArtifact(Path("artifacts/a")).ok());
  EXPECT_FALSE(fs::exists(Path("artifacts/a")));
  EXPECT_TRUE(fs::exists(Path("secret/file")));
}

}  // namespace
}  // namespace slipway::server
