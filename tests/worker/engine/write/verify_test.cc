#include "worker/engine/write/verify.h"

#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "tests/support/random_export.h"
#include "worker/engine/run/memory_needs.h"
#include "worker/engine/run/publication.h"
#include "worker/engine/run/shard_writer.h"
#include "worker/engine/run/staging.h"

namespace slipway::engine {
namespace {

using test::ReadFile;
using test::WriteFile;

class Verify : public testing::Test {
 protected:
  void SetUp() override {
    made_ = test::MakeRandomExport(directory_ / "checkpoint", {.seed = 21});
    FileSystem& files = PosixFileSystem();
    const auto staging = PrepareStaging(*made_.plan, output_, false, files);
    ASSERT_TRUE(staging.ok());
    MemoryBudget memory(kMaximumSegmentMemory);
    for (std::size_t i = 0; i < made_.plan->shards.size(); ++i) {
      ASSERT_TRUE(
          WriteShard(*made_.plan, static_cast<std::int32_t>(i), *staging, "a", {.files = &files, .memory = &memory}, {})
              .ok());
    }
    ASSERT_TRUE(Publish(*made_.plan, output_, "exports/1", 1, false, files).ok());
    ASSERT_TRUE(VerifyArtifact(output_, 2, {}).ok());
  }

  void Replace(const std::string& file, const std::string& from, const std::string& to) {
    std::string content = ReadFile(output_ + "/" + file);
    const std::size_t at = content.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    WriteFile(output_ + "/" + file, content.replace(at, from.size(), to));
  }
  // The error of verifying now, which must be there, and what it says of the file.
  void ExpectCorrupt(const std::string& file) {
    for (const int threads : {1, 4}) {
      const auto report = VerifyArtifact(output_, threads, {});
      EXPECT_EQ(ReasonOf(report.status()), Reason::kArtifactCorrupt) << Describe(report.status());
      EXPECT_EQ(WhereOf(report.status()).file, file) << Describe(report.status());
    }
  }
  [[nodiscard]] const std::string& ShardFile() const { return made_.plan->shards[0].file; }

  test::TemporaryDirectory directory_;
  const std::string output_ = directory_ / "out";
  test::RandomExport made_;
};

TEST_F(Verify, FindsOneFlippedBit) {
  std::string content = ReadFile(output_ + "/" + ShardFile());
  content.back() = static_cast<char>(content.back() ^ 0x10);
  WriteFile(output_ + "/" + ShardFile(), content);
  ExpectCorrupt(ShardFile());
}

TEST_F(Verify, FindsATruncatedFile) {
  std::filesystem::resize_file(output_ + "/" + ShardFile(),
                               std::filesystem::file_size(output_ + "/" + ShardFile()) - 1);
  ExpectCorrupt(ShardFile());
}

TEST_F(Verify, FindsAMissingFile) {
  std::filesystem::remove(output_ + "/config.json");
  ExpectCorrupt("config.json");
}

TEST_F(Verify, FindsAFileThatIsNotInTheManifest) {
  std::filesystem::create_directory(output_ + "/sub");
  WriteFile(output_ + "/sub/extra.py", "x");
  ExpectCorrupt("sub/extra.py");
}

TEST_F(Verify, FindsAnEditedIndex) {
  Replace("model.safetensors.index.json", made_.plan->shards[0].file, made_.plan->shards[1].file);
  ExpectCorrupt("model.safetensors.index.json");
}

TEST_F(Verify, FindsAManifestThatLiesAboutATensor) {
  const OutputTensor& tensor = made_.plan->tensors[0];
  Replace("manifest.json", "\"name\":\"" + tensor.name + "\"", "\"name\":\"renamed\"");
  ExpectCorrupt(ShardFile());
}

TEST_F(Verify, FindsAManifestThatLiesAboutADigest) {
  Replace("manifest.json", Sha256(made_.expected[0]), Sha256("something else"));
  ExpectCorrupt(ShardFile());
}

TEST_F(Verify, AManifestThatCannotBeReadIsCorruptAndNoneIsNotFound) {
  WriteFile(output_ + "/manifest.json", "{\"format\": \"slipway-artifact\", \"version\": 1}");
  ExpectCorrupt("manifest.json");
  std::filesystem::remove(output_ + "/manifest.json");
  EXPECT_EQ(ReasonOf(VerifyArtifact(output_, 1, {}).status()), Reason::kNotFound);
  EXPECT_EQ(ReasonOf(VerifyArtifact(directory_ / "nothing", 1, {}).status()), Reason::kNotFound);
}

TEST_F(Verify, ProgressAddsUpToTheFiles) {
  std::atomic<std::int64_t> seen{0};
  const auto report = VerifyArtifact(output_, 2, [&](std::int64_t bytes) { seen += bytes; });
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(seen, report->bytes);
}

}  // namespace
}  // namespace slipway::engine
