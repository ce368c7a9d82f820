#include "worker/engine/storage/mapped_window.h"

#include <signal.h>  // NOLINT(modernize-deprecated-headers): sigaction is not in <csignal>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/temporary_directory.h"
#include "worker/engine/storage/fault_guard.h"

namespace slipway::engine {
namespace {

constexpr std::int64_t kSize = 1 << 20;

std::string Pattern() {
  std::string content(kSize, '\0');
  for (std::size_t i = 0; i < content.size(); ++i) {
    content[i] = static_cast<char>(i * 31 % 251);
  }
  return content;
}

class MappedWindow : public testing::Test {
 protected:
  void SetUp() override {
    root_.Write("file", content_);
    directory_ = *OpenLocalDirectory(root_.path());
    file_ = *directory_->Open("file");
  }

  const std::string content_ = Pattern();
  test::TemporaryDirectory root_;
  std::unique_ptr<SourceDirectory> directory_;
  std::unique_ptr<SourceFile> file_;
};

TEST_F(MappedWindow, ShowsExactlyTheRange) {
  for (const std::int64_t offset : {0L, 1L, 4095L, 4096L, 100'001L}) {
    for (const std::int64_t length : {1L, 4096L, 70'000L}) {
      const auto window = file_->Map(offset, length);
      ASSERT_TRUE(window.ok()) << Describe(window.status());
      const auto expected = std::as_bytes(std::span(content_))
                                .subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(length));
      EXPECT_TRUE(std::ranges::equal(window->bytes(), expected)) << offset << " " << length;
      EXPECT_TRUE(window->Check().ok());
    }
  }
}

TEST_F(MappedWindow, MayBeEmpty) {
  const auto window = file_->Map(kSize, 0);
  ASSERT_TRUE(window.ok());
  EXPECT_TRUE(window->bytes().empty());
  EXPECT_TRUE(window->Check().ok());
}

TEST_F(MappedWindow, OutlivesItsFile) {
  const auto window = file_->Map(5, 5);
  file_.reset();
  EXPECT_EQ(static_cast<char>(window->bytes()[0]), content_[5]);
  EXPECT_TRUE(window->Check().ok());
}

TEST_F(MappedWindow, ATruncatedFileReadsAsZerosAndIsReported) {
  const auto window = file_->Map(10, kSize - 10);
  ASSERT_TRUE(window.ok());
  ASSERT_EQ(::truncate((root_ / "file").c_str(), 8192), 0);
  EXPECT_EQ(static_cast<char>(window->bytes()[100]), content_[110]);
  EXPECT_EQ(window->bytes()[500'000], std::byte{0});
  EXPECT_EQ(window->bytes().back(), std::byte{0});
  const absl::Status status = window->Check();
  EXPECT_EQ(ReasonOf(status), Reason::kCheckpointChanged);
  EXPECT_EQ(WhereOf(status).file, root_ / "file");
  EXPECT_EQ(WhereOf(status).offset, 10);
}

TEST_F(MappedWindow, ATruncatedFileSpoilsNoOtherWindow) {
  root_.Write("other", content_);
  const auto other_file = *directory_->Open("other");
  const auto other = other_file->Map(0, kSize);
  const auto window = file_->Map(0, kSize);
  ASSERT_EQ(::truncate((root_ / "file").c_str(), 0), 0);
  EXPECT_EQ(window->bytes()[4096], std::byte{0});
  EXPECT_EQ(static_cast<char>(other->bytes()[4097]), content_[4097]);
  EXPECT_TRUE(other->Check().ok());
}

TEST_F(MappedWindow, AFileThatWasWrittenToIsReported) {
  const auto window = file_->Map(0, kSize);
  root_.Write("file", content_ + "more");
  EXPECT_EQ(ReasonOf(window->Check()), Reason::kCheckpointChanged);
}

TEST_F(MappedWindow, TooManyAtOnceAreRefusedAndThenUsableAgain) {
  std::vector<Window> windows;
  for (std::size_t i = 0; i < GuardedRange::kMaximumRanges; ++i) {
    auto window = file_->Map(0, 1);
    if (!window.ok()) {
      break;
    }
    windows.push_back(*std::move(window));
  }
  EXPECT_EQ(ReasonOf(file_->Map(0, 1).status()), Reason::kLimitExceeded);
  windows.clear();
  EXPECT_TRUE(file_->Map(0, 1).ok());
}

TEST_F(MappedWindow, ThreadsMapAtOnce) {
  std::atomic<int> wrong = 0;
  std::vector<std::jthread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < 500; ++i) {
        const std::size_t offset = (i * 997 + static_cast<std::size_t>(t)) % 900'000;
        const auto window = file_->Map(static_cast<std::int64_t>(offset), 1000);
        wrong += !window.ok() || static_cast<char>(window->bytes()[999]) != content_[offset + 999] ? 1 : 0;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(wrong, 0);
}

using FaultGuardDeath = MappedWindow;

TEST_F(FaultGuardDeath, AFaultElsewhereStillEndsTheProcess) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto window = file_->Map(0, 1);  // the handler is installed
  EXPECT_DEATH(::raise(SIGBUS), "");
}

}  // namespace
}  // namespace slipway::engine
