#include "worker/engine/storage/file_pool.h"

#include <filesystem>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/temporary_directory.h"

namespace slipway::engine {
namespace {

std::size_t OpenDescriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    ++count;
  }
  return count;
}

std::string ContentOf(const SourceFile& file) {
  std::string content(static_cast<std::size_t>(file.size()), '\0');
  const absl::Status status = file.ReadAt(0, std::as_writable_bytes(std::span(content)));
  return status.ok() ? content : Describe(status);
}

class FilePoolTest : public testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 50; ++i) {
      root_.Write(fmt::format("tensor/{}", i), fmt::format("content {}", i));
    }
  }
  std::shared_ptr<FilePool> PoolOf(std::size_t maximum_open) {
    auto directory = OpenLocalDirectory(root_.path());
    EXPECT_TRUE(directory.ok());
    return FilePool::Make(*std::move(directory), maximum_open);
  }
  test::TemporaryDirectory root_;
};

TEST_F(FilePoolTest, ReadsAnyNumberOfFilesWithFewOpen) {
  const auto pool = PoolOf(4);
  std::vector<std::shared_ptr<const SourceFile>> files;
  const std::size_t before = OpenDescriptors();
  for (int i = 0; i < 50; ++i) {
    auto file = pool->Add(fmt::format("tensor/{}", i));
    ASSERT_TRUE(file.ok()) << Describe(file.status());
    files.push_back(*std::move(file));
  }
  for (int round = 0; round < 2; ++round) {
    for (std::size_t i = 0; i < files.size(); ++i) {
      EXPECT_EQ(ContentOf(*files[i]), fmt::format("content {}", i));
      EXPECT_TRUE(files[i]->CurrentIdentity().ok());
    }
  }
  EXPECT_EQ(OpenDescriptors(), before + 4);
}

TEST_F(FilePoolTest, AWindowOutlivesItsFileInThePool) {
  const auto pool = PoolOf(1);
  const auto first = pool->Add("tensor/1");
  const auto window = (*first)->Map(0, (*first)->size());
  ASSERT_TRUE(window.ok());
  ASSERT_TRUE(pool->Add("tensor/2").ok());
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(window->bytes().data()), window->bytes().size()), "content 1");
  EXPECT_TRUE(window->Check().ok());
}

TEST_F(FilePoolTest, AFileThatIsAnotherWhenItIsOpenedAgainIsChanged) {
  const auto pool = PoolOf(1);
  const auto first = pool->Add("tensor/1");
  ASSERT_TRUE(pool->Add("tensor/2").ok());
  root_.Write("tensor/1", "another content");
  std::vector<std::byte> bytes(1);
  const absl::Status status = (*first)->ReadAt(0, bytes);
  EXPECT_EQ(ReasonOf(status), Reason::kCheckpointChanged) << Describe(status);
  EXPECT_EQ(WhereOf(status).file, root_ / "tensor/1");
  EXPECT_EQ(ReasonOf((*first)->Map(0, 1).status()), Reason::kCheckpointChanged);
  EXPECT_EQ(ReasonOf((*first)->CurrentIdentity().status()), Reason::kCheckpointChanged);
}

TEST_F(FilePoolTest, AMissingFileIsNotFound) {
  EXPECT_EQ(ReasonOf(PoolOf(1)->Add("tensor/x").status()), Reason::kCheckpointNotFound);
  EXPECT_EQ(ReasonOf(PoolOf(1)->Add("../x").status()), Reason::kPathOutsideRoot);
}

}  // namespace
}  // namespace slipway::engine
