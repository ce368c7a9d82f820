#include "client/child_processes.h"

#include <csignal>
#include <filesystem>
#include <fstream>
#include <future>
#include <sstream>
#include <utility>

#include <gtest/gtest.h>

#include "common/error.h"

namespace slipway {
namespace {

std::string LogPath(const std::string& name) {
  std::string path = testing::TempDir() + "/" + name;
  std::filesystem::remove(path);
  return path;
}

TEST(ChildProcesses, AnEndIsReportedWithItsStatus) {
  std::promise<std::pair<pid_t, std::string>> ended;
  ChildProcesses children;
  const std::string log = LogPath("child-status.log");
  const auto child = children.Start({"/bin/sh", {"-c", "echo words; echo more >&2; exit 3"}, log});
  ASSERT_TRUE(child.ok());
  children.Monitor([&](pid_t process, const std::string& how) { ended.set_value({process, how}); });
  EXPECT_EQ(ended.get_future().get(), std::pair(*child, std::string("exited with status 3")));
  std::stringstream text;
  text << std::ifstream(log).rdbuf();
  EXPECT_EQ(text.str(), "words\nmore\n");
}

TEST(ChildProcesses, StopKillsAllAndReportsNone) {
  bool reported = false;
  pid_t first = 0;
  pid_t second = 0;
  {
    ChildProcesses children;
    first = *children.Start({"/bin/sleep", {"1000"}, LogPath("child-a.log")});
    second = *children.Start({"/bin/sleep", {"1000"}, LogPath("child-b.log")});
    children.Monitor([&](pid_t, const std::string&) { reported = true; });
  }
  EXPECT_FALSE(reported);
  EXPECT_EQ(kill(first, 0), -1);
  EXPECT_EQ(kill(second, 0), -1);
}

TEST(ChildProcesses, AProgramThatIsNotThereIsAnError) {
  ChildProcesses children;
  EXPECT_FALSE(children.Start({"/nonexistent/program", {}, LogPath("child-c.log")}).ok());
  EXPECT_EQ(ReasonOf(FindProgram("slipway-no-such-program").status()), Reason::kNotFound);
}

}  // namespace
}  // namespace slipway
