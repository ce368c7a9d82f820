#include "worker/engine/run/shard_writer.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/fault_file_system.h"
#include "tests/support/random_export.h"
#include "worker/engine/run/memory_needs.h"
#include "worker/engine/run/publication.h"
#include "worker/engine/run/staging.h"

namespace slipway::engine {
namespace {

using test::MakeRandomExport;
using test::RandomExport;
using test::ReadFile;
using test::TemporaryDirectory;

class ShardWriter : public testing::Test {
 protected:
  RandomExport Make(std::uint32_t seed, DigestAlgorithm digest = DigestAlgorithm::kSha256) {
    return MakeRandomExport(directory_ / ("checkpoint" + std::to_string(seed)), {.seed = seed, .digest = digest});
  }
  std::string Staging(const ExportPlan& plan) {
    const auto staging = PrepareStaging(plan, directory_ / "out", false, PosixFileSystem());
    EXPECT_TRUE(staging.ok()) << Describe(staging.status());
    return *staging;
  }
  RunResources Resources(FileSystem& files = PosixFileSystem()) {
    return {.files = &files, .memory = &memory_, .threads = 2};
  }

  TemporaryDirectory directory_;
  MemoryBudget memory_{kMaximumSegmentMemory};
};

TEST_F(ShardWriter, TheBytesAreThoseOfThePlanOnAnyNumberOfThreadsAndInSegmentsOfAnySize) {
  std::uint32_t seed = 1;
  for (const int threads : {1, 2, 3, 8}) {
    for (const std::int64_t segment : {std::int64_t{1}, std::int64_t{77}, std::int64_t{4096}, kSegmentBytes}) {
      const RandomExport made = Make(seed++);
      const std::string staging = Staging(*made.plan);
      RunResources resources = Resources();
      resources.threads = threads;
      resources.segment_bytes = segment;
      for (std::size_t i = 0; i < made.expected.size(); ++i) {
        const auto result = WriteShard(*made.plan, static_cast<std::int32_t>(i), staging, "a", resources, {});
        ASSERT_TRUE(result.ok()) << Describe(result.status());
        ASSERT_EQ(ReadFile(staging + "/" + result->file), made.expected[i]) << "seed " << seed - 1;
        EXPECT_EQ(result->digest, Sha256(made.expected[i]));
        EXPECT_EQ(result->bytes_written, static_cast<std::int64_t>(made.expected[i].size()));
      }
      EXPECT_LE(memory_.peak(), memory_.total());
      std::filesystem::remove_all(staging);
    }
  }
}

TEST_F(ShardWriter, ThreadsWorkWhileTheyHaveAShareAndTheBytesAreThePlans) {
  const RandomExport made = Make(6);
  const std::string staging = Staging(*made.plan);
  RunResources resources = Resources();
  resources.threads = 4;
  resources.segment_bytes = 77;
  std::atomic<int> asked = 0;
  resources.share = [&asked] { return asked++ % 5; };  // also none at all: one thread always works
  // On a busy machine the first thread could be done before another has begun: it waits until one has asked.
  const RunControl until_asked{.written = [&asked](std::int64_t) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (asked == 0 && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
    }
  }};
  for (std::size_t i = 0; i < made.expected.size(); ++i) {
    const auto result = WriteShard(*made.plan, static_cast<std::int32_t>(i), staging, "a", resources, until_asked);
    ASSERT_TRUE(result.ok()) << Describe(result.status());
    ASSERT_EQ(ReadFile(staging + "/" + result->file), made.expected[i]);
  }
  EXPECT_GT(asked, 0);
}

TEST_F(ShardWriter, EachTensorsChecksumIsOfItsOwnBytes) {
  const RandomExport made = Make(5);
  const std::string staging = Staging(*made.plan);
  RunResources resources = Resources();
  resources.segment_bytes = 1000;
  const auto result = WriteShard(*made.plan, 0, staging, "a", resources, {});
  ASSERT_TRUE(result.ok()) << Describe(result.status());
  ASSERT_EQ(result->tensors.size(), static_cast<std::size_t>(made.plan->shards[0].tensor_count));
  for (std::size_t i = 0; i < result->tensors.size(); ++i) {
    const OutputTensor& tensor = made.plan->tensors[i];
    Digest digest(DigestAlgorithm::kXxh3);
    digest.Update(std::string_view(made.expected[0])
                      .substr(static_cast<std::size_t>(tensor.file_offset), static_cast<std::size_t>(tensor.bytes)));
    EXPECT_EQ(result->tensors[i].name, tensor.name);
    EXPECT_EQ(result->tensors[i].xxh3, digest.Finish());
  }
}

TEST_F(ShardWriter, WithDigestsOffThereAreNone) {
  const RandomExport made = Make(6, DigestAlgorithm::kNone);
  const std::string staging = Staging(*made.plan);
  const auto result = WriteShard(*made.plan, 0, staging, "a", Resources(), {});
  ASSERT_TRUE(result.ok()) << Describe(result.status());
  EXPECT_EQ(ReadFile(staging + "/" + result->file), made.expected[0]);
  EXPECT_EQ(result->digest, "");
  EXPECT_EQ(result->tensors.at(0).xxh3, "");
}

TEST_F(ShardWriter, AShardInTheJournalIsNotWrittenAgain) {
  const RandomExport made = Make(7);
  const std::string staging = Staging(*made.plan);
  const auto first = WriteShard(*made.plan, 0, staging, "a", Resources(), {});
  ASSERT_TRUE(first.ok()) << Describe(first.status());
  const auto again = WriteShard(*made.plan, 0, staging, "b", Resources(), {});
  ASSERT_TRUE(again.ok()) << Describe(again.status());
  EXPECT_EQ(again->bytes_written, 0);
  EXPECT_EQ(again->digest, first->digest);
  EXPECT_EQ(again->tensors.size(), first->tensors.size());
}

TEST_F(ShardWriter, AShardWhoseFileOrPlanIsNotTheJournalsIsWrittenAgain) {
  const RandomExport made = Make(8);
  const std::string staging = Staging(*made.plan);
  ASSERT_TRUE(WriteShard(*made.plan, 0, staging, "a", Resources(), {}).ok());
  std::filesystem::resize_file(staging + "/" + made.plan->shards[0].file, 10);
  const auto cut = WriteShard(*made.plan, 0, staging, "b", Resources(), {});
  ASSERT_TRUE(cut.ok()) << Describe(cut.status());
  EXPECT_GT(cut->bytes_written, 0);
  made.plan->hash = Sha256("another plan");
  const auto other_plan = WriteShard(*made.plan, 0, staging, "c", Resources(), {});
  ASSERT_TRUE(other_plan.ok()) << Describe(other_plan.status());
  EXPECT_GT(other_plan->bytes_written, 0);
}

TEST_F(ShardWriter, WhicheverCallFailsTheErrorSaysSoAndNothingOfTheAttemptIsLeft) {
  const RandomExport made = Make(9);
  const std::string staging = Staging(*made.plan);
  const std::vector<std::string> before = test::NamesIn(staging);
  int failures = 0;
  for (int call = 1;; ++call) {
    FaultFileSystem files(PosixFileSystem());
    files.FailCall(call, EIO);
    const auto result = WriteShard(*made.plan, 0, staging, "a", Resources(files), {});
    const bool failed = files.failed();
    if (!failed) {
      ASSERT_TRUE(result.ok()) << Describe(result.status());
      break;
    }
    if (result.ok()) {
      // The one call whose failure only costs work: looking into the journal.
      EXPECT_EQ(call, 1);
    } else {
      ++failures;
      EXPECT_EQ(ReasonOf(result.status()), Reason::kOutputUnwritable) << Describe(result.status());
      for (const std::string& name : test::NamesIn(staging)) {
        EXPECT_THAT(name, testing::Not(testing::HasSubstr("attempt")));
      }
    }
    std::filesystem::remove(staging + "/" + made.plan->shards[0].file);
    std::filesystem::remove_all(staging + "/journal");
    std::filesystem::create_directory(staging + "/journal");
    EXPECT_EQ(test::NamesIn(staging), before);
  }
  EXPECT_GE(failures, 8);
}

TEST_F(ShardWriter, AFullDiskShowsBeforeTheWorkAndLeavesNothing) {
  const RandomExport made = Make(10);
  const std::string staging = Staging(*made.plan);
  FaultFileSystem files(PosixFileSystem());
  files.FailEvery("Allocate", ENOSPC);
  std::int64_t written = 0;
  const auto result = WriteShard(*made.plan, 0, staging, "a", Resources(files),
                                 {.written = [&](std::int64_t bytes) { written += bytes; }});
  EXPECT_EQ(ReasonOf(result.status()), Reason::kOutputDiskFull);
  EXPECT_EQ(written, 0);
  EXPECT_THAT(test::NamesIn(staging), testing::ElementsAre("journal", "lock"));
}

TEST_F(ShardWriter, AJournalledShardSurvivesAPowerCut) {
  const RandomExport made = Make(11);
  const std::string staging = Staging(*made.plan);
  FaultFileSystem files(PosixFileSystem());
  ASSERT_TRUE(WriteShard(*made.plan, 0, staging, "a", Resources(files), {}).ok());
  files.DropUnsynced();
  EXPECT_EQ(ReadFile(staging + "/" + made.plan->shards[0].file), made.expected[0]);
  const auto again = WriteShard(*made.plan, 0, staging, "b", Resources(), {});
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->bytes_written, 0);
}

TEST_F(ShardWriter, AShardThatOnlyThePageCacheHadCountsUntilTheMachineRestarts) {
  const RandomExport made = Make(17);
  const std::string staging = Staging(*made.plan);
  const RunResources resources = Resources(PosixFileSystem(Durability::kPageCache));
  ASSERT_TRUE(WriteShard(*made.plan, 0, staging, "a", resources, {}).ok());
  const auto again = WriteShard(*made.plan, 0, staging, "b", resources, {});
  ASSERT_TRUE(again.ok()) << Describe(again.status());
  EXPECT_EQ(again->bytes_written, 0);

  const auto promised = WriteShard(*made.plan, 0, staging, "c", Resources(), {});
  ASSERT_TRUE(promised.ok()) << Describe(promised.status());
  EXPECT_GT(promised->bytes_written, 0) << "a durable worker may not rely on it";
  std::filesystem::remove_all(staging + "/journal");
  ASSERT_TRUE(WriteShard(*made.plan, 0, staging, "d", resources, {}).ok());

  const std::string record = staging + "/journal/" + made.plan->shards[0].file + ".json";
  std::string text = ReadFile(record);
  std::string boot = ReadFile("/proc/sys/kernel/random/boot_id");
  boot.pop_back();  // the end of its line
  const std::size_t found = text.find(boot);
  ASSERT_NE(found, std::string::npos) << text;
  text.replace(found, boot.size(), "00000000-0000-0000-0000-000000000000");
  std::ofstream(record) << text;
  const auto restarted = WriteShard(*made.plan, 0, staging, "e", resources, {});
  ASSERT_TRUE(restarted.ok()) << Describe(restarted.status());
  EXPECT_GT(restarted->bytes_written, 0);
}

TEST_F(ShardWriter, ACheckpointThatIsTruncatedOrRewrittenMeanwhileIsReportedAsChanged) {
  for (const bool truncate : {true, false}) {
    const RandomExport made = Make(truncate ? 12 : 13);
    const std::string staging = Staging(*made.plan);
    FaultFileSystem files(PosixFileSystem());
    // Between the first look at the checkpoint and the first byte written.
    files.before = [&, done = false](const std::string& name, const std::string&) mutable {
      if (name == "Allocate" && !done) {
        done = true;
        for (const CheckpointFile& file : made.plan->checkpoint->files) {
          const std::string path = made.plan->checkpoint->path + "/" + file.name;
          if (truncate) {
            std::filesystem::resize_file(path, 1);
          } else {
            std::ofstream(path, std::ios::in | std::ios::out) << "changed";
            std::filesystem::last_write_time(path,
                                             std::filesystem::file_time_type::clock::now() + std::chrono::hours(1));
          }
        }
      }
    };
    const auto result = WriteShard(*made.plan, 0, staging, "a", Resources(files), {});
    EXPECT_EQ(ReasonOf(result.status()), Reason::kCheckpointChanged) << Describe(result.status());
    EXPECT_THAT(test::NamesIn(staging), testing::ElementsAre("journal", "lock"));
  }
}

TEST_F(ShardWriter, CancellingStopsWithinASegmentAndLeavesNothing) {
  const RandomExport made = Make(14);
  const std::string staging = Staging(*made.plan);
  std::atomic<bool> cancelled{false};
  RunResources resources = Resources();
  resources.segment_bytes = 500;
  resources.threads = 1;
  std::int64_t written = 0;
  const auto result = WriteShard(*made.plan, 0, staging, "a", resources,
                                 {.written =
                                      [&](std::int64_t bytes) {
                                        written += bytes;
                                        cancelled = true;
                                      },
                                  .cancelled = &cancelled});
  EXPECT_EQ(ReasonOf(result.status()), Reason::kCancelled);
  EXPECT_LT(written, made.plan->shards[0].bytes);
  EXPECT_THAT(test::NamesIn(staging), testing::ElementsAre("journal", "lock"));
}

TEST_F(ShardWriter, ABudgetBelowTheStatedMinimumIsRefusedRatherThanHung) {
  const RandomExport made = Make(15);
  MemoryBudget small(MinimumMemoryBudget(*made.plan) - 1);
  RunResources resources = Resources();
  resources.memory = &small;
  EXPECT_EQ(ReasonOf(WriteShard(*made.plan, 0, Staging(*made.plan), "a", resources, {}).status()),
            Reason::kMemoryBudgetTooSmall);
}

TEST_F(ShardWriter, AWriterWhoseStagingDirectoryWasTakenLosesItsLease) {
  const RandomExport made = Make(16);
  const std::string staging = Staging(*made.plan);
  FaultFileSystem files(PosixFileSystem());
  files.before = [&](const std::string& name, const std::string&) {
    if (name == "Rename") {
      std::filesystem::rename(staging, staging + ".e9");
    }
  };
  EXPECT_EQ(ReasonOf(WriteShard(*made.plan, 0, staging, "a", Resources(files), {}).status()), Reason::kLeaseLost);
}

}  // namespace
}  // namespace slipway::engine
