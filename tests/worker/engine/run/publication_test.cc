#include "worker/engine/run/publication.h"
#include "worker/engine/run/staging.h"

#include <cerrno>
#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/fault_file_system.h"
#include "tests/support/random_export.h"
#include "worker/engine/run/memory_needs.h"
#include "worker/engine/run/shard_writer.h"
#include "worker/engine/write/verify.h"

namespace slipway::engine {
namespace {

using test::MakeRandomExport;
using test::NamesIn;
using test::RandomExport;
using test::ReadFile;
using testing::ElementsAre;

constexpr std::string_view kExport = "exports/1";

class Publishing : public testing::Test {
 protected:
  // An export whose shards are all written and journalled.
  RandomExport Written(std::uint32_t seed = 1) {
    RandomExport made = MakeRandomExport(directory_ / ("checkpoint" + std::to_string(seed)),
                                         {.seed = seed, .digest = DigestAlgorithm::kSha256});
    WriteShards(*made.plan);
    return made;
  }
  void WriteShards(const ExportPlan& plan) {
    const auto staging = PrepareStaging(plan, output_, true, PosixFileSystem());
    ASSERT_TRUE(staging.ok()) << Describe(staging.status());
    MemoryBudget memory(kMaximumSegmentMemory);
    for (std::size_t i = 0; i < plan.shards.size(); ++i) {
      const auto result = WriteShard(plan, static_cast<std::int32_t>(i), *staging, "a",
                                     {.files = &PosixFileSystem(), .memory = &memory}, {});
      ASSERT_TRUE(result.ok()) << Describe(result.status());
    }
  }
  absl::StatusOr<Publication> PublishAt(const ExportPlan& plan, std::int64_t epoch, bool overwrite = false,
                                        FileSystem& files = PosixFileSystem()) {
    return Publish(plan, output_, std::string(kExport), epoch, overwrite, files);
  }
  void ExpectWholeAndAlone(const ExportPlan& plan) {
    EXPECT_THAT(NamesIn(artifacts_), ElementsAre("out"));
    const auto report = VerifyArtifact(output_, 2, {});
    ASSERT_TRUE(report.ok()) << Describe(report.status());
    EXPECT_EQ(report->plan_hash, plan.hash);
    EXPECT_EQ(report->tensors, static_cast<std::int64_t>(plan.tensors.size()));
  }

  test::TemporaryDirectory directory_;
  const std::string artifacts_ = directory_ / "artifacts";
  const std::string output_ = artifacts_ + "/out";
};

TEST_F(Publishing, TheArtifactIsWholeAndNothingIsLeftBesideIt) {
  const RandomExport made = Written();
  const auto published = PublishAt(*made.plan, 1);
  ASSERT_TRUE(published.ok()) << Describe(published.status());
  ExpectWholeAndAlone(*made.plan);
  EXPECT_EQ(published->manifest_digest, Sha256(ReadFile(output_ + "/manifest.json")));
  EXPECT_EQ(ReadFile(output_ + "/config.json"), "{\"a\": 1}\n");
  for (std::size_t i = 0; i < made.expected.size(); ++i) {
    EXPECT_EQ(ReadFile(output_ + "/" + made.plan->shards[i].file), made.expected[i]);
  }
}

TEST_F(Publishing, TheIndexHasEveryTensorAndTheirTotalSize) {
  const RandomExport made = Written();
  ASSERT_TRUE(PublishAt(*made.plan, 1).ok());
  const auto index = nlohmann::json::parse(ReadFile(output_ + "/model.safetensors.index.json"));
  std::int64_t total = 0;
  for (const OutputTensor& tensor : made.plan->tensors) {
    EXPECT_EQ(index["weight_map"][tensor.name], made.plan->shards[static_cast<std::size_t>(tensor.shard)].file);
    total += tensor.bytes;
  }
  EXPECT_EQ(index["metadata"]["total_size"], total);
  EXPECT_EQ(index["weight_map"].size(), made.plan->tensors.size());
}

TEST_F(Publishing, APublisherThatComesAgainFindsItDone) {
  const RandomExport made = Written();
  const auto first = PublishAt(*made.plan, 3);
  ASSERT_TRUE(first.ok());
  for (const std::int64_t epoch : {3, 4}) {
    const auto again = PublishAt(*made.plan, epoch);
    ASSERT_TRUE(again.ok()) << Describe(again.status());
    EXPECT_EQ(again->manifest_digest, first->manifest_digest);
  }
  ExpectWholeAndAlone(*made.plan);
}

TEST_F(Publishing, AnOutputThatExistsIsRefusedUntouched) {
  const RandomExport made = Written();
  std::filesystem::create_directory(output_);
  test::WriteFile(output_ + "/precious", "x");
  EXPECT_EQ(ReasonOf(PrepareStaging(*made.plan, output_, false, PosixFileSystem()).status()), Reason::kOutputExists);
  EXPECT_EQ(ReasonOf(PublishAt(*made.plan, 1).status()), Reason::kOutputExists);
  EXPECT_THAT(NamesIn(output_), ElementsAre("precious"));
}

TEST_F(Publishing, OverwritingReplacesArtifactsAndNothingElse) {
  const RandomExport made = Written();
  const auto prepared = [&] { return ReasonOf(PrepareStaging(*made.plan, output_, true, PosixFileSystem()).status()); };
  std::filesystem::create_directory(output_);
  EXPECT_TRUE(PrepareStaging(*made.plan, output_, true, PosixFileSystem()).ok()) << "there is nothing in it";
  test::WriteFile(output_ + "/precious", "x");
  EXPECT_EQ(prepared(), Reason::kOutputExists);
  test::WriteFile(output_ + "/manifest.json", "{}");
  EXPECT_EQ(prepared(), Reason::kOutputExists);
  std::filesystem::remove_all(output_);
  ASSERT_TRUE(PublishAt(*made.plan, 1).ok());
  EXPECT_TRUE(PrepareStaging(*made.plan, output_, true, PosixFileSystem()).ok());
}

TEST_F(Publishing, NothingThatIsReadIsReplaced) {
  const RandomExport made = Written();
  std::filesystem::create_directory(output_);
  for (std::string ExportOptions::*source :
       {&ExportOptions::checkpoint, &ExportOptions::hf_config, &ExportOptions::adapter, &ExportOptions::ranges}) {
    for (const std::string& path : {output_, output_ + "/iter_0000001", artifacts_ + "/link", artifacts_ + "/./out/"}) {
      std::filesystem::remove(artifacts_ + "/link");
      std::filesystem::create_directory_symlink(output_, artifacts_ + "/link");
      ExportPlan plan = *made.plan;
      plan.options.*source = path;
      const absl::Status status = PrepareStaging(plan, output_, true, PosixFileSystem()).status();
      EXPECT_EQ(ReasonOf(status), Reason::kInvalidArgument) << path << ": " << Describe(status);
    }
    ExportPlan beside = *made.plan;
    beside.options.*source = output_ + "-2";
    EXPECT_TRUE(PrepareStaging(beside, output_, true, PosixFileSystem()).ok());
  }
}

TEST_F(Publishing, OverwritingPutsTheNewInPlaceOfTheOld) {
  const RandomExport made = Written();
  std::filesystem::create_directory(output_);
  test::WriteFile(output_ + "/old", "x");
  const auto published = PublishAt(*made.plan, 1, /*overwrite=*/true);
  ASSERT_TRUE(published.ok()) << Describe(published.status());
  ExpectWholeAndAlone(*made.plan);
}

TEST_F(Publishing, AStalePublisherIsFenced) {
  const RandomExport made = Written();
  const std::string staging = StagingDirectory(output_, made.plan->hash);
  std::filesystem::rename(staging, staging + ".e7");
  EXPECT_EQ(ReasonOf(PublishAt(*made.plan, 6).status()), Reason::kLeaseLost);
  EXPECT_FALSE(std::filesystem::exists(output_));
}

TEST_F(Publishing, ALaterPublisherTakesOverWhatADeadOneClaimed) {
  const RandomExport made = Written();
  const std::string staging = StagingDirectory(output_, made.plan->hash);
  std::filesystem::rename(staging, staging + ".e7");
  const auto published = PublishAt(*made.plan, 8);
  ASSERT_TRUE(published.ok()) << Describe(published.status());
  ExpectWholeAndAlone(*made.plan);
}

// A publisher that died may have counted epochs under another coordinator: neither a larger number nor what it had
// done already is in the way of the next export of the same plan.
TEST_F(Publishing, WhatADeadPublisherClaimedIsTakenBackByTheNextExport) {
  for (const bool journal_was_gone : {false, true}) {
    const RandomExport made = Written();
    const std::string staging = StagingDirectory(output_, made.plan->hash);
    std::filesystem::rename(staging, staging + ".e41");
    std::filesystem::create_directory(staging + ".e7");
    if (journal_was_gone) {
      std::filesystem::remove_all(staging + ".e41/journal");
      std::filesystem::remove(staging + ".e41/lock");
    }
    WriteShards(*made.plan);
    const auto published = PublishAt(*made.plan, 2);
    ASSERT_TRUE(published.ok()) << Describe(published.status());
    ExpectWholeAndAlone(*made.plan);
    std::filesystem::remove_all(artifacts_);
  }
}

TEST_F(Publishing, AClaimThatAProcessHoldsIsNotTakenBack) {
  const RandomExport made = Written();
  const std::string staging = StagingDirectory(output_, made.plan->hash);
  std::filesystem::rename(staging, staging + ".e41");
  const auto held = PosixFileSystem().TryLock(staging + ".e41/lock", false);
  ASSERT_TRUE(held.ok());
  ASSERT_TRUE(PrepareStaging(*made.plan, output_, false, PosixFileSystem()).ok());
  EXPECT_TRUE(std::filesystem::exists(staging + ".e41/journal"));
}

// The later publisher acts between any two steps of the earlier one.
TEST_F(Publishing, APublisherOvertakenAnywhereLosesItsLeaseOrFindsTheArtifactDone) {
  for (int step = 1;; ++step) {
    const RandomExport made = Written();
    FaultFileSystem files(PosixFileSystem());
    int calls = 0;
    bool overtaken = false;
    files.before = [&](const std::string&, const std::string&) {
      if (++calls == step) {
        overtaken = true;
        const auto later = PublishAt(*made.plan, 2);
        EXPECT_TRUE(later.ok()) << "before call " << step << ": " << Describe(later.status());
      }
    };
    const auto earlier = PublishAt(*made.plan, 1, false, files);
    if (!overtaken) {
      break;
    }
    EXPECT_TRUE(earlier.ok() || ReasonOf(earlier.status()) == Reason::kLeaseLost ||
                ReasonOf(earlier.status()) == Reason::kOutputExists)
        << "before call " << step << ": " << Describe(earlier.status());
    ExpectWholeAndAlone(*made.plan);
    std::filesystem::remove_all(artifacts_);
  }
}

TEST_F(Publishing, WhicheverCallFailsTheOutputIsWholeOrAbsentAndTheNextPublisherFinishes) {
  for (const bool overwrite : {false, true}) {
    for (int call = 1;; ++call) {
      const RandomExport made = Written();
      if (overwrite) {
        std::filesystem::create_directory(output_);
        test::WriteFile(output_ + "/old", "x");
      }
      FaultFileSystem files(PosixFileSystem());
      files.FailCall(call, EIO);
      const auto broken = PublishAt(*made.plan, 1, overwrite, files);
      if (!broken.ok() && std::filesystem::exists(output_) && !std::filesystem::exists(output_ + "/old")) {
        EXPECT_TRUE(VerifyArtifact(output_, 1, {}).ok()) << "call " << call;
      }
      const auto published = PublishAt(*made.plan, 2, overwrite);
      ASSERT_TRUE(published.ok()) << "call " << call << ": " << Describe(published.status());
      ExpectWholeAndAlone(*made.plan);
      std::filesystem::remove_all(artifacts_);
      if (!files.failed()) {
        break;
      }
    }
  }
}

TEST_F(Publishing, APublishedArtifactSurvivesAPowerCut) {
  const RandomExport made = Written();
  FaultFileSystem files(PosixFileSystem());
  ASSERT_TRUE(PublishAt(*made.plan, 1, false, files).ok());
  files.DropUnsynced();
  ExpectWholeAndAlone(*made.plan);
}

TEST_F(Publishing, AMissingShardIsNamedAndTheOthersAreKept) {
  const RandomExport made = Written();
  const std::string staging = StagingDirectory(output_, made.plan->hash);
  std::filesystem::remove(staging + "/" + made.plan->shards[1].file);
  const auto published = PublishAt(*made.plan, 1);
  ASSERT_FALSE(published.ok());
  EXPECT_EQ(WhereOf(published.status()).file, made.plan->shards[1].file);
  EXPECT_EQ(ReadFile(staging + "/" + made.plan->shards[0].file), made.expected[0]);
}

TEST_F(Publishing, WhatThePlanDoesNotNameIsNotPublished) {
  const RandomExport made = Written();
  const std::string staging = StagingDirectory(output_, made.plan->hash);
  test::WriteFile(staging + "/" + made.plan->shards[0].file + ".attempt-x", "half");
  test::WriteFile(staging + "/stray", "x");
  ASSERT_TRUE(PublishAt(*made.plan, 1).ok());
  ExpectWholeAndAlone(*made.plan);
}

TEST_F(Publishing, LeftoversOfOtherPlansGoUnlessSomebodyHoldsThem) {
  const RandomExport made = Written();
  const std::string dead = artifacts_ + "/.out.slipway-00000000deadbeef";
  const std::string alive = artifacts_ + "/.out.slipway-00000000a11e0000";
  for (const std::string& path : {dead, alive}) {
    std::filesystem::create_directory(path);
    test::WriteFile(path + "/lock", "");
  }
  const auto held = PosixFileSystem().TryLock(alive + "/lock", false);
  ASSERT_TRUE(held.ok());
  ASSERT_TRUE(PrepareStaging(*made.plan, output_, false, PosixFileSystem()).ok());
  EXPECT_FALSE(std::filesystem::exists(dead));
  EXPECT_TRUE(std::filesystem::exists(alive));
}

TEST_F(Publishing, TooLittleRoomShowsBeforeTheWork) {
  const RandomExport made = Written();
  made.plan->hash = Sha256("needs all its shards again");
  made.plan->shards[0].bytes = std::int64_t{1} << 60;
  EXPECT_EQ(ReasonOf(PrepareStaging(*made.plan, output_, false, PosixFileSystem()).status()), Reason::kOutputDiskFull);
}

TEST_F(Publishing, AParentThatCannotBeWrittenIsAnUnwritableOutput) {
  const RandomExport made = Written();
  FaultFileSystem files(PosixFileSystem());
  files.FailEvery("MakeDirectories", EROFS);
  EXPECT_EQ(ReasonOf(PrepareStaging(*made.plan, output_, false, files).status()), Reason::kOutputUnwritable);
}

TEST_F(Publishing, ASidecarIsCopiedAndOneThatChangedIsRefused) {
  const RandomExport made = Written();
  const std::string source = directory_ / "tokenizer.json";
  test::WriteFile(source, "{}");
  made.plan->sidecars = {{"tokenizer.json", source, *PosixFileSystem().Identify(source)}};
  test::WriteFile(source, "{ }");
  EXPECT_EQ(ReasonOf(PublishAt(*made.plan, 1).status()), Reason::kCheckpointChanged);
  made.plan->sidecars[0].identity = *PosixFileSystem().Identify(source);
  const auto published = PublishAt(*made.plan, 2);
  ASSERT_TRUE(published.ok()) << Describe(published.status());
  EXPECT_EQ(ReadFile(output_ + "/tokenizer.json"), "{ }");
  ExpectWholeAndAlone(*made.plan);
}

}  // namespace
}  // namespace slipway::engine
