#include "client/channel.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "common/error.h"

namespace slipway {
namespace {

TEST(Address, HostsAndPortsGoThroughTheResolver) {
  EXPECT_EQ(*GrpcTarget("localhost:7070"), "dns:///localhost:7070");
  EXPECT_EQ(*GrpcTarget("10.0.0.1:1"), "dns:///10.0.0.1:1");
  EXPECT_EQ(*GrpcTarget("[::1]:65535"), "dns:///[::1]:65535");
}

TEST(Address, UnixPathsBecomeAbsolute) {
  EXPECT_EQ(*GrpcTarget("unix:/run/slipway"), "unix:/run/slipway");
  EXPECT_EQ(*GrpcTarget("unix:///run/slipway"), "unix:/run/slipway");
  EXPECT_EQ(*GrpcTarget("unix:here"), "unix:" + (std::filesystem::current_path() / "here").string());
}

TEST(Address, WhatIsNoAddressIsRefusedByName) {
  for (const std::string address : {"localhost", "localhost:", "localhost:0", "localhost:65536", "localhost:70x", ":70",
                                    "::1:70", "http://host:70", "unix:", ""}) {
    const auto target = GrpcTarget(address);
    ASSERT_FALSE(target.ok()) << address;
    EXPECT_EQ(ReasonOf(target.status()), Reason::kInvalidArgument) << address;
  }
  EXPECT_FALSE(GrpcTarget("unix:/" + std::string(200, 'x')).ok());
}

TEST(Connection, ATokenDoesNotTravelInClear) {
  const std::string path = testing::TempDir() + "/slipway-token";
  std::ofstream(path) << "secret\n";
  const auto in_clear = OpenConnection({.address = "localhost:70", .token_file = path});
  EXPECT_EQ(ReasonOf(in_clear.status()), Reason::kInvalidArgument);
  EXPECT_TRUE(OpenConnection({.address = "unix:/tmp/x", .token_file = path}).ok());
}

TEST(Connection, ACertificateNeedsItsKey) {
  const auto connection = OpenConnection({.address = "localhost:70", .tls_certificate = "/c.pem"});
  EXPECT_EQ(ReasonOf(connection.status()), Reason::kInvalidArgument);
}

TEST(Connection, NobodyThereIsUnreachableAndNamesTheAddress) {
  const auto connection = OpenConnection({.address = "unix:/nonexistent/socket"});
  ASSERT_TRUE(connection.ok());
  const absl::Status status = (*connection)->WaitUntilConnected(std::chrono::milliseconds(50));
  EXPECT_EQ(ReasonOf(status), Reason::kServerUnreachable);
  EXPECT_NE(std::string(status.message()).find("unix:/nonexistent/socket"), std::string::npos);
}

}  // namespace
}  // namespace slipway
