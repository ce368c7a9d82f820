#include "server/artifact_listings.h"

#include <filesystem>

#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/temporary_directory.h"

namespace slipway::server {
namespace {

constexpr const char* kManifest = R"({"digest_algorithm": "none", "files": [{"path": "a", "size": 1}]})";

class ArtifactListingsTest : public testing::Test {
 protected:
  // As publication does it: the manifest is another file then.
  void Publish(const char* manifest) {
    directory_.Write("new", manifest);
    std::filesystem::rename(directory_ / "new", directory_ / "manifest.json");
  }

  test::TemporaryDirectory directory_;
  ArtifactListings listings_;
};

TEST_F(ArtifactListingsTest, AManifestIsReadOnce) {
  Publish(kManifest);
  const auto first = listings_.Of(directory_.path());
  ASSERT_TRUE(first.ok()) << Describe(first.status());
  EXPECT_EQ((*first)->front().path, "a");
  const auto second = listings_.Of(directory_.path());
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(*first, *second);  // the same list, not an equal one
}

TEST_F(ArtifactListingsTest, AnExchangedManifestIsReadAgain) {
  Publish(kManifest);
  ASSERT_TRUE(listings_.Of(directory_.path()).ok());
  Publish(R"({"digest_algorithm": "none", "files": [{"path": "b", "size": 1}]})");
  const auto second = listings_.Of(directory_.path());
  ASSERT_TRUE(second.ok());
  EXPECT_EQ((*second)->front().path, "b");
}

TEST_F(ArtifactListingsTest, ARemovedOrDamagedArtifactIsNotServedFromMemory) {
  Publish(kManifest);
  ASSERT_TRUE(listings_.Of(directory_.path()).ok());
  Publish("{");
  EXPECT_EQ(ReasonOf(listings_.Of(directory_.path()).status()), Reason::kArtifactCorrupt);
  std::filesystem::remove(directory_ / "manifest.json");
  EXPECT_EQ(ReasonOf(listings_.Of(directory_.path()).status()), Reason::kNotFound);
  Publish(kManifest);
  EXPECT_TRUE(listings_.Of(directory_.path()).ok());
}

TEST_F(ArtifactListingsTest, ManyArtifactsPushOutTheOldestOnly) {
  for (int i = 0; i < 40; ++i) {
    const std::string name = "artifact-" + std::to_string(i);
    directory_.Write(name + "/manifest.json", kManifest);
    ASSERT_TRUE(listings_.Of(directory_ / name).ok()) << i;
  }
  const auto last = listings_.Of(directory_ / "artifact-39");
  EXPECT_EQ(*last, *listings_.Of(directory_ / "artifact-39"));
  EXPECT_TRUE(listings_.Of(directory_ / "artifact-0").ok());
}

}  // namespace
}  // namespace slipway::server
