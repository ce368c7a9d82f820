// An export of several targets, from its shards to the directories that it publishes together. The targets are the
// same random tensors in other files: what each directory must be is what an export of its target alone leaves, and
// that its bytes are right is proven where one target is written.
#include <cerrno>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "common/digest.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/random_export.h"
#include "worker/engine/plan/join_plans.h"
#include "worker/engine/plan/plan_hash.h"
#include "worker/engine/plan/shard_layout.h"
#include "worker/engine/run/memory_needs.h"
#include "worker/engine/run/publication.h"
#include "worker/engine/run/shard_writer.h"
#include "worker/engine/run/staging.h"
#include "worker/engine/write/manifest.h"
#include "worker/engine/write/verify.h"

namespace slipway::engine {
namespace {

namespace fs = std::filesystem;

using test::NamesIn;
using test::ReadFile;
using testing::ElementsAre;

constexpr std::string_view kExport = "exports/1";

// The contents of all files below, by path.
std::map<std::string, std::string> FilesBelow(const std::string& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    if (entry.is_regular_file()) {
      files[fs::relative(entry.path(), directory).string()] = ReadFile(entry.path().string());
    }
  }
  return files;
}

class SeveralTargets : public testing::Test {
 protected:
  void SetUp() override {
    const std::string checkpoint = directory_ / "checkpoint";
    const test::RandomExport made = test::MakeRandomExport(checkpoint, {.seed = 5, .tensors = 7, .shards = 3});
    test::WriteFile(directory_ / "tokenizer.json", "{}");
    ExportPlan one = *made.plan;
    one.sidecars = {{.path = "tokenizer.json",
                     .source = directory_ / "tokenizer.json",
                     .identity = *PosixFileSystem().Identify(directory_ / "tokenizer.json")}};
    HashPlan(one);
    ExportPlan other = *made.plan;  // in one file
    auto shards = LayOutShards(other.tensors, std::int64_t{1} << 40);
    ASSERT_TRUE(shards.ok());
    other.shards = *std::move(shards);
    other.output_bytes = other.shards[0].bytes;
    other.options.targets = {"vllm-sharded"};
    other.texts = {{"config.json", "{\"b\": 2}\n"}};
    HashPlan(other);
    alone_ = {one, other};
    auto joined = JoinPlans(alone_);
    ASSERT_TRUE(joined.ok()) << Describe(joined.status());
    plan_ = std::make_unique<const ExportPlan>(*std::move(joined));
  }

  // Bytes that were written for each shard now.
  std::vector<std::int64_t> WriteShards(const ExportPlan& plan, const std::string& output,
                                        FileSystem& files = PosixFileSystem()) {
    std::vector<std::int64_t> written;
    const auto staging = PrepareStaging(plan, output, true, files);
    EXPECT_TRUE(staging.ok()) << Describe(staging.status());
    MemoryBudget memory(kMaximumSegmentMemory);
    for (std::size_t i = 0; staging.ok() && i < plan.shards.size(); ++i) {
      const auto result =
          WriteShard(plan, static_cast<std::int32_t>(i), *staging, "a", {.files = &files, .memory = &memory}, {});
      EXPECT_TRUE(result.ok()) << Describe(result.status());
      written.push_back(result.ok() ? result->bytes_written : -1);
    }
    return written;
  }
  absl::StatusOr<Publication> PublishAt(const ExportPlan& plan, const std::string& output, std::int64_t epoch,
                                        FileSystem& files = PosixFileSystem()) {
    return Publish(plan, output, std::string(kExport), epoch, false, files);
  }
  void Export() {
    WriteShards(*plan_, output_);
    const auto published = PublishAt(*plan_, output_, 1);
    ASSERT_TRUE(published.ok()) << Describe(published.status());
  }

  void ExpectEachIsWhatItsTargetAloneLeaves() {
    EXPECT_THAT(NamesIn(artifacts_), ElementsAre("out"));
    EXPECT_THAT(NamesIn(output_), ElementsAre("huggingface", "manifest.json", "vllm-sharded"));
    for (const ExportPlan& plan : alone_) {
      const std::string target = plan.options.targets.front();
      const std::string alone = directory_ / ("alone/" + target);
      if (!fs::exists(alone)) {
        WriteShards(plan, alone);
        ASSERT_TRUE(PublishAt(plan, alone, 1).ok());
      }
      EXPECT_EQ(FilesBelow(output_ + "/" + target), FilesBelow(alone));
      EXPECT_TRUE(VerifyArtifact(output_ + "/" + target, 2, {}).ok());
    }
    const auto report = VerifyArtifact(output_, 2, {});
    EXPECT_TRUE(report.ok()) << Describe(report.status());
  }
  void ExpectCorrupt(const std::string& file) {
    const auto report = VerifyArtifact(output_, 2, {});
    EXPECT_EQ(ReasonOf(report.status()), Reason::kArtifactCorrupt) << Describe(report.status());
    EXPECT_EQ(WhereOf(report.status()).file, file) << Describe(report.status());
  }
  // With the manifest above it saying so, too.
  void ReplaceInBothManifests(const std::string& file, const std::string& content) {
    nlohmann::ordered_json above = nlohmann::ordered_json::parse(ReadFile(output_ + "/manifest.json"));
    for (auto& row : above["files"]) {
      if (row["path"] == file) {
        row["digest"] = Sha256(content);
        row["size"] = content.size();
      }
    }
    test::WriteFile(output_ + "/" + file, content);
    test::WriteFile(output_ + "/manifest.json", above.dump());
  }

  test::TemporaryDirectory directory_;
  const std::string artifacts_ = directory_ / "artifacts";
  const std::string output_ = artifacts_ + "/out";
  std::vector<ExportPlan> alone_;
  std::unique_ptr<const ExportPlan> plan_;
};

TEST_F(SeveralTargets, EachDirectoryIsWhatItsTargetAloneLeaves) {
  Export();
  ExpectEachIsWhatItsTargetAloneLeaves();
  EXPECT_EQ(FilesBelow(output_ + "/huggingface").count("model.safetensors.index.json"), 1U);
  EXPECT_EQ(FilesBelow(output_ + "/vllm-sharded").count("model.safetensors.index.json"), 0U);
}

TEST_F(SeveralTargets, TheManifestOfThemAllListsTheirFilesAndNamesThem) {
  Export();
  const auto manifest = nlohmann::json::parse(ReadFile(output_ + "/manifest.json"));
  std::map<std::string, std::string> listed;
  for (const auto& file : manifest["files"]) {
    listed[file["path"]] = file["digest"];
    EXPECT_EQ(file["size"], fs::file_size(output_ + "/" + file["path"].get<std::string>()));
  }
  std::map<std::string, std::string> there;
  for (const auto& [path, content] : FilesBelow(output_)) {
    there[path] = Sha256(content);
  }
  there.erase("manifest.json");
  EXPECT_EQ(listed, there);
  EXPECT_EQ(manifest["directories"], nlohmann::json::parse(R"([{"path": "huggingface", "target": "huggingface"},
                                      {"path": "vllm-sharded", "target": "vllm-sharded"}])"));
  EXPECT_TRUE(manifest["tensors"].empty());
  EXPECT_EQ(manifest["plan_hash"], plan_->hash);
}

TEST_F(SeveralTargets, WhatIsVerifiedIsSaidOfThemAllAndOfEach) {
  Export();
  const auto report = VerifyArtifact(output_, 2, {});
  ASSERT_TRUE(report.ok()) << Describe(report.status());
  EXPECT_EQ(report->tensors, 14);
  EXPECT_EQ(report->files, static_cast<std::int64_t>(FilesBelow(output_).size()) - 1);
  ASSERT_EQ(report->directories.size(), 2U);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(report->directories[i].target, alone_[i].options.targets.front());
    EXPECT_EQ(report->directories[i].tensors, 7);
    EXPECT_EQ(report->directories[i].plan_hash, alone_[i].hash);
  }
}

TEST_F(SeveralTargets, WhatIsFinishedIsNotWrittenAgainAfterACrash) {
  WriteShards(*plan_, output_);
  const std::string staging = StagingDirectory(output_, plan_->hash);
  fs::remove(staging + "/vllm-sharded/model.safetensors");
  test::WriteFile(staging + "/vllm-sharded/model.safetensors.attempt-dead", "half");
  test::WriteFile(staging + "/huggingface/config.json", "of a publisher that died");
  EXPECT_EQ(ReasonOf(PublishAt(*plan_, output_, 1).status()), Reason::kPlanMismatch);
  const std::vector<std::int64_t> written = WriteShards(*plan_, output_);
  for (std::size_t i = 0; i < written.size(); ++i) {
    const bool lost = plan_->shards[i].file == "vllm-sharded/model.safetensors";
    EXPECT_EQ(written[i], lost ? plan_->shards[i].bytes : 0) << plan_->shards[i].file;
  }
  ASSERT_TRUE(PublishAt(*plan_, output_, 2).ok());
  ExpectEachIsWhatItsTargetAloneLeaves();
}

TEST_F(SeveralTargets, WhicheverCallFailsAllAreThereOrNoneAndTheNextPublisherFinishes) {
  for (int call = 1;; ++call) {
    WriteShards(*plan_, output_);
    FaultFileSystem files(PosixFileSystem());
    files.FailCall(call, EIO);
    const auto broken = PublishAt(*plan_, output_, 1, files);
    if (!broken.ok() && fs::exists(output_)) {
      EXPECT_TRUE(VerifyArtifact(output_, 1, {}).ok()) << "call " << call;
    }
    const auto published = PublishAt(*plan_, output_, 2);
    ASSERT_TRUE(published.ok()) << "call " << call << ": " << Describe(published.status());
    ExpectEachIsWhatItsTargetAloneLeaves();
    fs::remove_all(artifacts_);
    if (!files.failed()) {
      EXPECT_GT(call, 20);
      break;
    }
  }
}

TEST_F(SeveralTargets, TheySurviveAPowerCut) {
  FaultFileSystem files(PosixFileSystem());
  WriteShards(*plan_, output_, files);
  ASSERT_TRUE(PublishAt(*plan_, output_, 1, files).ok());
  files.DropUnsynced();
  ExpectEachIsWhatItsTargetAloneLeaves();
}

TEST_F(SeveralTargets, VerifyingFindsWhatIsWrongInAnyOfThem) {
  const std::string file = "huggingface/" + alone_[0].shards[0].file;
  const auto change = [&](const std::function<void()>& damage, const std::string& named) {
    Export();
    damage();
    ExpectCorrupt(named);
    fs::remove_all(artifacts_);
  };
  change(
      [&] {
        std::string content = ReadFile(output_ + "/" + file);
        content.back() = static_cast<char>(content.back() ^ 1);
        test::WriteFile(output_ + "/" + file, content);
      },
      file);
  change([&] { fs::remove_all(output_ + "/vllm-sharded"); }, "vllm-sharded/model.safetensors");
  change([&] { test::WriteFile(output_ + "/extra", ""); }, "extra");
  change([&] { test::WriteFile(output_ + "/vllm-sharded/extra", ""); }, "vllm-sharded/extra");
  // A directory's manifest that is whole in itself, but not the one that was written with the others.
  change(
      [&] {
        std::string content = ReadFile(output_ + "/vllm-sharded/manifest.json");
        const std::size_t at = content.find("exports/1");
        test::WriteFile(output_ + "/vllm-sharded/manifest.json", content.replace(at, 9, "exports/2"));
        EXPECT_TRUE(VerifyArtifact(output_ + "/vllm-sharded", 1, {}).ok());
      },
      "vllm-sharded/manifest.json");
  // Digests that are those of no file.
  change(
      [&] {
        const std::string digest = Sha256(ReadFile(output_ + "/vllm-sharded/config.json"));
        std::string content = ReadFile(output_ + "/manifest.json");
        content.replace(content.find(digest), digest.size(), Sha256("another"));
        test::WriteFile(output_ + "/manifest.json", content);
      },
      "vllm-sharded/config.json");
  // A file that the manifest of all has, and none of the targets.
  change(
      [&] {
        auto above = nlohmann::ordered_json::parse(ReadFile(output_ + "/manifest.json"));
        above["files"].push_back({{"path", "stray"}, {"size", 0}, {"digest", Sha256("")}});
        test::WriteFile(output_ + "/stray", "");
        test::WriteFile(output_ + "/manifest.json", above.dump());
      },
      "stray");
  // Directories below directories.
  change(
      [&] {
        auto own = nlohmann::ordered_json::parse(ReadFile(output_ + "/vllm-sharded/manifest.json"));
        own["directories"] = {{{"path", "x"}, {"target", "x"}}};
        ReplaceInBothManifests("vllm-sharded/manifest.json", own.dump());
      },
      "vllm-sharded/manifest.json");
}

TEST_F(SeveralTargets, AManifestNamesNoDirectoryOutsideOfItsOwn) {
  Export();
  const std::string text = ReadFile(output_ + "/manifest.json");
  for (const char* path : {"..", ".", "", "/etc", "a/b", "huggingface/../.."}) {
    auto manifest = nlohmann::ordered_json::parse(text);
    manifest["directories"][0]["path"] = path;
    EXPECT_EQ(ReasonOf(ParseManifest(manifest.dump()).status()), Reason::kArtifactCorrupt) << path;
  }
  EXPECT_TRUE(ParseManifest(nlohmann::ordered_json::parse(text).dump()).ok());
}

}  // namespace
}  // namespace slipway::engine
