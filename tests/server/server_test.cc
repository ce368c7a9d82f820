#include "server/server.h"

#include <future>
#include <regex>

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <boost/asio/ip/tcp.hpp>

#include "tests/server/services/service_fixture.h"

namespace slipway::server {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class ServerTest : public ServiceTest {
 protected:
  ServerTest() {
    StopServer();
    options_.http = "127.0.0.1:0";
    StartServer();
  }

  [[nodiscard]] std::string HttpGet(const std::string& path, const std::string& method = "GET") const {
    boost::asio::ip::tcp::iostream stream("127.0.0.1", std::to_string(server_->http_port()));
    stream << method << " " << path << " HTTP/1.1\r\nHost: localhost\r\n\r\n" << std::flush;
    return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  }
};

TEST_F(ServerTest, ProbesAnswerAndOtherPathsAreNotFound) {
  EXPECT_THAT(HttpGet("/healthz"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(HttpGet("/readyz"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(HttpGet("/elsewhere"), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(HttpGet("/metrics", "DELETE"), StartsWith("HTTP/1.1 405"));
}

TEST_F(ServerTest, MetricsCountWhatHappenedAndFollowPrometheusRules) {
  const FakeWorker worker(channel_, "w");
  WatchToTheEnd(Create(Request()).name());
  const std::string answer = HttpGet("/metrics");
  EXPECT_THAT(answer, HasSubstr("slipway_exports_created_total 1"));
  EXPECT_THAT(answer, HasSubstr("slipway_exports_finished_total{result=\"SUCCEEDED\"} 1"));
  EXPECT_THAT(answer, HasSubstr("slipway_exports{state=\"SUCCEEDED\"} 1"));
  EXPECT_THAT(answer, HasSubstr("slipway_build_info{version="));

  std::istringstream body(answer.substr(answer.find("\r\n\r\n") + 4));
  const std::regex line_form(
      R"((# (HELP|TYPE) slipway_[a-z_]+ .+)|(slipway_[a-z_]+(\{[^{}]*\})? [-+0-9.eEinfINFNa]+))");
  int series = 0;
  for (std::string line; std::getline(body, line);) {
    EXPECT_TRUE(std::regex_match(line, line_form)) << line;
    ++series;
  }
  EXPECT_GT(series, 30);
  EXPECT_LT(series, 500);
}

TEST_F(ServerTest, ASecondServerOnTheSameDataIsRefused) {
  ServerOptions second = options_;
  second.listen = "unix:" + directory_.path() + "/second";
  EXPECT_FALSE(Server::Start(second, SystemClock()).ok());
}

TEST_F(ServerTest, PortZeroTakesAFreePortAndSaysWhich) {
  StopServer();
  options_.listen = "127.0.0.1:0";
  const auto server = Server::Start(options_, SystemClock());
  ASSERT_TRUE(server.ok()) << Describe(server.status());
  EXPECT_TRUE(std::regex_match((*server)->address(), std::regex("127\\.0\\.0\\.1:[1-9][0-9]*")))
      << (*server)->address();
}

TEST_F(ServerTest, AStopAnswersWorkersAndWatchersThatWait) {
  const std::string name = Create(Request()).name();
  grpc::ClientContext context;
  v1::WatchExportRequest request;
  request.set_name(name);
  const auto stream = exports_->WatchExport(&context, request);
  v1::WatchExportResponse response;
  ASSERT_TRUE(stream->Read(&response));
  const auto start = std::chrono::steady_clock::now();
  server_->Stop();
  while (stream->Read(&response)) {
  }
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(4)) << "nobody had to be cut off";
}

// From the client's call to the worker's receipt of the planning task, both commits and the way back included.
TEST_F(ServerTest, AnIdleWorkerHasANewExportWithinMoments) {
  using Time = std::chrono::steady_clock::time_point;
  std::mutex mutex;
  std::map<std::string, Time> received;
  const FakeWorker worker(channel_, "w", [&](const v1::Assignment& assignment, v1::TaskReport& report) {
    {
      const std::lock_guard lock(mutex);
      received.emplace(assignment.lease().export_name(), std::chrono::steady_clock::now());
    }
    FakeWorker::Succeed(assignment, report);
  });
  std::vector<double> milliseconds;
  for (int i = 0; i < 100; ++i) {
    const Time submitted = std::chrono::steady_clock::now();
    const std::string name = Create(Request()).name();
    WatchToTheEnd(name);
    const std::lock_guard lock(mutex);
    milliseconds.push_back(std::chrono::duration<double, std::milli>(received.at(name) - submitted).count());
  }
  std::ranges::sort(milliseconds);
  std::cout << "submit to first lease: median " << milliseconds[50] << " ms, p99 " << milliseconds[99] << " ms\n";
  EXPECT_LT(milliseconds[50], 100) << "a poll of some kind is in the way";
}

}  // namespace
}  // namespace slipway::server
