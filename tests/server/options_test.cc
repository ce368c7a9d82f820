#include "server/options.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/temporary_directory.h"

namespace slipway::server {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(ServerOptions, EveryDocumentedKeyIsTaken) {
  ServerOptions options;
  const absl::Status status = ApplyConfig(
      "publish_roots: [/exports, /more]\n"
      "checkpoint_roots: [/checkpoints]\n"
      "log: {level: debug, format: json}\n"
      "scheduling: {lease_seconds: 2.5, stuck_seconds: 30, maximum_faults: 4, maximum_losses: 9, idle_call_seconds: "
      "1}\n",
      options);
  ASSERT_TRUE(status.ok()) << Describe(status);
  EXPECT_THAT(options.roots.publish, ElementsAre("/exports", "/more"));
  EXPECT_THAT(options.roots.checkpoints, ElementsAre("/checkpoints"));
  EXPECT_EQ(options.log.level, "debug");
  EXPECT_EQ(options.log.format, LogFormat::kJson);
  EXPECT_EQ(options.coordinator.scheduler.lease, std::chrono::milliseconds(2500));
  EXPECT_EQ(options.coordinator.scheduler.stuck, std::chrono::seconds(30));
  EXPECT_EQ(options.coordinator.scheduler.maximum_faults, 4);
  EXPECT_EQ(options.coordinator.scheduler.maximum_losses, 9);
  EXPECT_EQ(options.coordinator.idle_call, std::chrono::seconds(1));
}

TEST(ServerOptions, AMistakeIsNamedNotIgnored) {
  const auto message = [](const std::string& yaml) {
    ServerOptions options;
    const absl::Status status = ApplyConfig(yaml, options);
    EXPECT_EQ(ReasonOf(status), Reason::kInvalidArgument) << yaml;
    return std::string(status.message());
  };
  EXPECT_THAT(message("publish_root: [/x]"), HasSubstr("publish_root"));
  EXPECT_THAT(message("scheduling: {lease: 1}"), HasSubstr("lease"));
  EXPECT_THAT(message("scheduling: {lease_seconds: soon}"), HasSubstr("lease_seconds"));
  EXPECT_THAT(message("scheduling: {lease_seconds: -1}"), HasSubstr("lease_seconds"));
  EXPECT_THAT(message("scheduling: {maximum_faults: 0}"), HasSubstr("maximum_faults"));
  EXPECT_THAT(message("log: {format: xml}"), HasSubstr("format"));
  EXPECT_THAT(message("[1, 2]"), HasSubstr("map"));
  message("{");
}

TEST(ServerOptions, AnEmptyFileChangesNothing) {
  ServerOptions options;
  EXPECT_TRUE(ApplyConfig("", options).ok());
  EXPECT_TRUE(ApplyConfig("# only a comment\n", options).ok());
}

TEST(ServerOptions, DirectoriesAreMadeAndResolved) {
  const test::TemporaryDirectory directory;
  ServerOptions options;
  options.data = directory.path() + "/./a/data";
  options.roots.artifacts = "file://" + directory.path() + "/b/../artifacts";
  ASSERT_TRUE(CompleteOptions(options).ok());
  EXPECT_EQ(options.data, directory.path() + "/a/data");
  EXPECT_EQ(options.coordinator.artifact_root, directory.path() + "/artifacts");
  options.roots.artifacts = "s3://bucket";
  EXPECT_EQ(ReasonOf(CompleteOptions(options)), Reason::kOptionUnsupported);
}

}  // namespace
}  // namespace slipway::server
