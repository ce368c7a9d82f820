#include "common/reporting_file_system.h"

#include <cerrno>
#include <string>

#include <gtest/gtest.h>

#include "tests/support/fault_file_system.h"
#include "tests/support/temporary_directory.h"

namespace slipway {
namespace {

class Reporting : public testing::Test {
 protected:
  const test::TemporaryDirectory directory_;
  FaultFileSystem real_{PosixFileSystem()};
  int reports_ = 0;
  ReportingFileSystem files_{real_, [this] { ++reports_; }};
};

TEST_F(Reporting, EveryCallThatSucceedsIsProgressAndNoOtherIs) {
  ASSERT_TRUE(files_.WriteSmallFileAtomically(directory_ / "a", "content").ok());
  EXPECT_EQ(reports_, real_.calls());
  EXPECT_GE(reports_, 5);  // create, write, sync, rename, sync of the directory
  EXPECT_EQ(files_.ReadSmallFile(directory_ / "a", 100).value(), "content");
  real_.FailEvery("SyncDirectory", EIO);
  const int before = reports_;
  EXPECT_FALSE(files_.SyncDirectory(directory_.path()).ok());
  EXPECT_EQ(reports_, before);
}

TEST_F(Reporting, ALongFileIsSyncedInStepsThatAreProgressEach) {
  const auto file = files_.Create(directory_ / "long");
  ASSERT_TRUE(file.ok());
  char byte = 'x';
  const iovec part{&byte, 1};
  ASSERT_TRUE((*file)->WriteAt(3 * ReportingFileSystem::kSyncStep, std::span(&part, 1)).ok());
  const int before = reports_;
  ASSERT_TRUE((*file)->Sync().ok());
  EXPECT_EQ(reports_ - before, 5);
}

TEST_F(Reporting, AStepThatFailsFailsTheSync) {
  const auto file = files_.Create(directory_ / "long");
  ASSERT_TRUE(file.ok());
  char byte = 'x';
  const iovec part{&byte, 1};
  ASSERT_TRUE((*file)->WriteAt(0, std::span(&part, 1)).ok());
  real_.FailEvery("WriteBack", EIO);
  EXPECT_FALSE((*file)->Sync().ok());
}

TEST_F(Reporting, WhatFinishedWorkOutlivesIsWhatTheRealOneSays) {
  for (const Durability durability : {Durability::kDurable, Durability::kPageCache}) {
    EXPECT_EQ(ReportingFileSystem(PosixFileSystem(durability), [] {}).durability(), durability);
  }
}

}  // namespace
}  // namespace slipway
