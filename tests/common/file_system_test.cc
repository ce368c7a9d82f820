#include "common/file_system.h"

#include <cerrno>
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/fault_file_system.h"
#include "tests/support/random_export.h"

namespace slipway {
namespace {

using test::NamesIn;
using test::ReadFile;
using test::TemporaryDirectory;
using test::WriteFile;

FileSystem& Files() { return PosixFileSystem(); }

TEST(PosixFileSystem, PartsOfAnySizeLandOneAfterTheOtherFromTheOffset) {
  const TemporaryDirectory directory;
  std::string expected(1000, '\0');
  std::vector<std::string> pieces;
  for (const std::size_t size : {0, 1, 65535, 65536, 65537, 0, 200'000, 3}) {
    pieces.emplace_back(size, static_cast<char>('a' + pieces.size()));
    expected += pieces.back();
  }
  for (int i = 0; i < 3000; ++i) {  // more than one call takes
    pieces.emplace_back(static_cast<std::size_t>(i % 5), static_cast<char>(i));
    expected += pieces.back();
  }
  std::vector<iovec> parts;
  parts.reserve(pieces.size());
  for (std::string& piece : pieces) {
    parts.push_back({piece.data(), piece.size()});
  }
  const auto file = Files().Create(directory / "file");
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE((*file)->WriteAt(1000, parts).ok());
  EXPECT_EQ(ReadFile(directory / "file"), expected);
}

TEST(PosixFileSystem, WhatIsAllocatedHasItsSize) {
  const TemporaryDirectory directory;
  const auto file = Files().Create(directory / "file");
  ASSERT_TRUE((*file)->Allocate(12'345).ok());
  EXPECT_EQ(Files().Identify(directory / "file")->size, 12'345);
}

TEST(PosixFileSystem, AFileThatIsLeftToThePageCacheIsNotWaitedFor) {
  const TemporaryDirectory directory;
  constexpr std::int64_t kNowhere = -1;  // which only a call that asks the system notices
  for (const Durability durability : {Durability::kDurable, Durability::kPageCache}) {
    const auto file = PosixFileSystem(durability).Create(directory / "file");
    ASSERT_TRUE(file.ok());
    EXPECT_EQ((*file)->WriteBack(kNowhere, 1).ok(), durability == Durability::kPageCache);
  }
}

TEST(PosixFileSystem, MoreThanTheDiskHoldsIsADiskFull) {
  const TemporaryDirectory directory;
  const auto file = Files().Create(directory / "file");
  const std::int64_t free = *Files().FreeSpace(directory.path());
  EXPECT_EQ(ReasonOf((*file)->Allocate(free + (std::int64_t{1} << 30))), Reason::kOutputDiskFull);
}

TEST(PosixFileSystem, ASmallFileIsReplacedWholeOrNotAtAll) {
  const TemporaryDirectory directory;
  const std::string path = directory / "file";
  ASSERT_TRUE(Files().WriteSmallFileAtomically(path, "old").ok());
  for (int call = 1;; ++call) {
    FaultFileSystem files(Files());
    files.FailCall(call, EIO);
    const absl::Status status = files.WriteSmallFileAtomically(path, "new");
    EXPECT_EQ(status.ok(), !files.failed());
    EXPECT_THAT(ReadFile(path), testing::AnyOf("old", "new"));
    EXPECT_THAT(NamesIn(directory.path()), testing::ElementsAre("file"));
    if (status.ok()) {
      break;
    }
  }
  EXPECT_EQ(ReadFile(path), "new");
}

TEST(PosixFileSystem, AFileLongerThanTheLimitIsRefused) {
  const TemporaryDirectory directory;
  WriteFile(directory / "file", std::string(100, 'x'));
  EXPECT_EQ(*Files().ReadSmallFile(directory / "file", 100), std::string(100, 'x'));
  EXPECT_EQ(ReasonOf(Files().ReadSmallFile(directory / "file", 99).status()), Reason::kLimitExceeded);
}

TEST(PosixFileSystem, RenamingReplacesRefusesOrExchangesAsAsked) {
  const TemporaryDirectory directory;
  WriteFile(directory / "a", "A");
  WriteFile(directory / "b", "B");
  EXPECT_EQ(ReasonOf(Files().Rename(directory / "a", directory / "b", RenameMode::kNoReplace)), Reason::kOutputExists);
  ASSERT_TRUE(Files().Rename(directory / "a", directory / "b", RenameMode::kExchange).ok());
  EXPECT_EQ(ReadFile(directory / "a") + ReadFile(directory / "b"), "BA");
  ASSERT_TRUE(Files().Rename(directory / "a", directory / "b", RenameMode::kReplace).ok());
  EXPECT_THAT(NamesIn(directory.path()), testing::ElementsAre("b"));
  EXPECT_EQ(ReadFile(directory / "b"), "B");
}

TEST(PosixFileSystem, AnExclusiveLockKeepsOthersOutUntilItGoes) {
  const TemporaryDirectory directory;
  const std::string path = directory / "lock";
  auto shared = Files().TryLock(path, false);
  ASSERT_TRUE(shared.ok());
  EXPECT_TRUE(Files().TryLock(path, false).ok());
  EXPECT_TRUE(absl::IsAborted(Files().TryLock(path, true).status()));
  shared->reset();
  auto exclusive = Files().TryLock(path, true);
  ASSERT_TRUE(exclusive.ok());
  EXPECT_TRUE(absl::IsAborted(Files().TryLock(path, false).status()));
}

TEST(PosixFileSystem, RemovingATreeThatIsNotThereIsNoError) {
  const TemporaryDirectory directory;
  std::filesystem::create_directories(directory / "tree/below");
  WriteFile(directory / "tree/below/file", "x");
  EXPECT_TRUE(Files().RemoveTree(directory / "tree").ok());
  EXPECT_TRUE(Files().RemoveTree(directory / "tree").ok());
  EXPECT_THAT(NamesIn(directory.path()), testing::IsEmpty());
}

}  // namespace
}  // namespace slipway
