#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/temporary_directory.h"
#include "worker/engine/storage/source.h"

namespace slipway::engine {
namespace {

std::string Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class LocalDirectory : public testing::Test {
 protected:
  void SetUp() override {
    outside_.Write("secret", "secret");
    root_.Write("file", "0123456789");
    root_.Write("below/inner", "inner");
    auto opened = OpenLocalDirectory(root_.path());
    ASSERT_TRUE(opened.ok()) << Describe(opened.status());
    directory_ = *std::move(opened);
  }

  Reason ReasonOfOpening(const std::string& name) { return ReasonOf(directory_->Open(name).status()); }

  test::TemporaryDirectory outside_;
  test::TemporaryDirectory root_;
  std::unique_ptr<SourceDirectory> directory_;
};

TEST_F(LocalDirectory, ReadsWhatLiesBelow) {
  EXPECT_EQ(*directory_->ReadSmallFile("file", 10), "0123456789");
  EXPECT_EQ(*directory_->ReadSmallFile("below/inner", 10), "inner");
  EXPECT_TRUE(directory_->Exists("below"));
  EXPECT_FALSE(directory_->Exists("absent"));
}

TEST_F(LocalDirectory, RefusesNamesThatLeaveIt) {
  EXPECT_EQ(ReasonOfOpening("../secret"), Reason::kPathOutsideRoot);
  EXPECT_EQ(ReasonOfOpening("below/../file"), Reason::kPathOutsideRoot);
  EXPECT_EQ(ReasonOfOpening(outside_ / "secret"), Reason::kPathOutsideRoot);
  EXPECT_EQ(ReasonOfOpening(""), Reason::kPathOutsideRoot);
  EXPECT_EQ(ReasonOfOpening(std::string("file\0x", 6)), Reason::kPathOutsideRoot);
  EXPECT_EQ(ReasonOf(directory_->OpenDirectory("..").status()), Reason::kPathOutsideRoot);
}

TEST_F(LocalDirectory, RefusesLinksThatLeaveIt) {
  std::filesystem::create_symlink(outside_ / "secret", root_ / "link");
  std::filesystem::create_directory_symlink(outside_.path(), root_ / "folder");
  EXPECT_EQ(ReasonOfOpening("link"), Reason::kPathOutsideRoot);
  EXPECT_EQ(ReasonOfOpening("folder/secret"), Reason::kPathOutsideRoot);
}

TEST_F(LocalDirectory, NeitherBlocksOnAPipeNorReadsADirectory) {
  ASSERT_EQ(::mkfifo((root_ / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(ReasonOfOpening("pipe"), Reason::kCheckpointCorrupt);
  EXPECT_EQ(ReasonOfOpening("below"), Reason::kCheckpointCorrupt);
  EXPECT_EQ(ReasonOfOpening("absent"), Reason::kCheckpointNotFound);
}

TEST_F(LocalDirectory, ListsSortedEntries) {
  const auto entries = directory_->List();
  ASSERT_TRUE(entries.ok());
  ASSERT_EQ(entries->size(), 2);
  EXPECT_EQ((*entries)[0].name, "below");
  EXPECT_TRUE((*entries)[0].is_directory);
  EXPECT_EQ((*entries)[1].name, "file");
  EXPECT_FALSE((*entries)[1].is_directory);
}

TEST_F(LocalDirectory, ASmallFileThatIsLargeIsRefused) {
  EXPECT_EQ(ReasonOf(directory_->ReadSmallFile("file", 9).status()), Reason::kLimitExceeded);
}

TEST_F(LocalDirectory, RangesPastTheEndAreCorruptAndNameFileAndOffset) {
  const auto file = directory_->Open("file");
  ASSERT_TRUE(file.ok());
  std::vector<std::byte> bytes(4);
  ASSERT_TRUE((*file)->ReadAt(6, bytes).ok());
  EXPECT_EQ(Text(bytes), "6789");
  const absl::Status status = (*file)->ReadAt(7, bytes);
  EXPECT_EQ(ReasonOf(status), Reason::kCheckpointCorrupt);
  EXPECT_EQ(WhereOf(status).file, root_ / "file");
  EXPECT_EQ(WhereOf(status).offset, 7);
  EXPECT_EQ(ReasonOf((*file)->Map(8, 3).status()), Reason::kCheckpointCorrupt);
  EXPECT_EQ(ReasonOf((*file)->Map(-1, 3).status()), Reason::kCheckpointCorrupt);
  EXPECT_EQ(ReasonOf((*file)->Map(1, INT64_MAX).status()), Reason::kCheckpointCorrupt);
}

}  // namespace
}  // namespace slipway::engine
