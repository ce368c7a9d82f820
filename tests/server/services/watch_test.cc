#include <atomic>
#include <future>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/services/service_fixture.h"

namespace slipway::server {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

class WatchTest : public ServiceTest {};

void ExpectWithoutGap(const std::vector<v1::ExportEvent>& events, std::int64_t after) {
  for (const v1::ExportEvent& event : events) {
    EXPECT_EQ(event.sequence(), ++after);
  }
}

TEST_F(WatchTest, TheSnapshotComesFirstThenEveryEventThenTheEnd) {
  const FakeWorker worker(channel_, "w");
  const std::string name = Create(Request()).name();
  grpc::ClientContext context;
  v1::WatchExportRequest request;
  request.set_name(name);
  const auto stream = exports_->WatchExport(&context, request);
  v1::WatchExportResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.snapshot().name(), name);
  std::vector<v1::ExportEvent> events;
  while (stream->Read(&response)) {
    EXPECT_FALSE(response.has_snapshot());
    if (response.has_event()) {
      events.push_back(response.event());
    }
  }
  EXPECT_TRUE(stream->Finish().ok());
  ExpectWithoutGap(events, 0);
  EXPECT_EQ(events.front().kind(), "created");
  EXPECT_EQ(events.back().kind(), "published");
  EXPECT_EQ(events.back().state(), v1::EXPORT_STATE_SUCCEEDED);
}

TEST_F(WatchTest, AReconnectResumesAfterTheLastEventSeenAlsoOverARestart) {
  std::atomic<bool> finish{false};
  const auto on_task = [&](const v1::Assignment& assignment, v1::TaskReport& report) {
    if (finish || assignment.lease().kind() == v1::TASK_KIND_PLAN) {
      FakeWorker::Succeed(assignment, report);
    }
  };
  const FakeWorker worker(channel_, "w", on_task);
  const std::string name = Create(Request()).name();
  AwaitState(name, v1::EXPORT_STATE_RUNNING);
  const std::int64_t seen = Get(name).last_sequence();
  RestartServer();
  finish = true;
  const std::vector<v1::ExportEvent> rest = WatchToTheEnd(name, seen);
  EXPECT_THAT(rest, testing::Not(IsEmpty()));
  ExpectWithoutGap(rest, seen);
  EXPECT_EQ(rest.back().state(), v1::EXPORT_STATE_SUCCEEDED);
}

TEST_F(WatchTest, WatchingWhatHasEndedShowsTheHistoryAndEnds) {
  const FakeWorker worker(channel_, "w");
  const std::string name = Create(Request()).name();
  const std::size_t all = WatchToTheEnd(name).size();
  EXPECT_THAT(WatchToTheEnd(name), SizeIs(all));
  EXPECT_THAT(WatchToTheEnd(name, static_cast<std::int64_t>(all)), IsEmpty());
}

TEST_F(WatchTest, MoreEventsThanABatchComeWithoutAGap) {
  const FakeWorker worker(channel_, "w", [](const v1::Assignment& assignment, v1::TaskReport& report) {
    FakeWorker::Succeed(assignment, report);
    if (report.has_plan()) {
      for (int i = 0; i < 200; ++i) {
        report.mutable_plan()->add_shard_bytes(1);
      }
    }
  });
  const std::string name = Create(Request()).name();
  WatchToTheEnd(name);
  const std::vector<v1::ExportEvent> events = WatchToTheEnd(name);
  EXPECT_GT(events.size(), 200U);
  ExpectWithoutGap(events, 0);
}

TEST_F(WatchTest, AWatcherThatNeverReadsDoesNotHoldTheExportUp) {
  const FakeWorker worker(channel_, "w");
  const std::string name = Create(Request()).name();
  grpc::ClientContext context;
  v1::WatchExportRequest request;
  request.set_name(name);
  const auto lazy = exports_->WatchExport(&context, request);
  WatchToTheEnd(name);
  EXPECT_EQ(Get(name).state(), v1::EXPORT_STATE_SUCCEEDED);
  context.TryCancel();
}

TEST_F(WatchTest, AWatcherThatGoesAwayIsForgotten) {
  const std::string name = Create(Request()).name();
  {
    grpc::ClientContext context;
    v1::WatchExportRequest request;
    request.set_name(name);
    const auto stream = exports_->WatchExport(&context, request);
    v1::WatchExportResponse response;
    ASSERT_TRUE(stream->Read(&response));
    context.TryCancel();
    while (stream->Read(&response)) {
    }
    EXPECT_FALSE(stream->Finish().ok());
  }
  std::int64_t watchers = 1;
  for (int i = 0; i < 1000 && watchers > 0; ++i) {
    std::promise<std::int64_t> count;
    server_->coordinator().Statistics(
        [&count](const absl::StatusOr<CoordinatorStatistics>& statistics) { count.set_value(statistics->watchers); });
    watchers = count.get_future().get();
    std::this_thread::yield();
  }
  EXPECT_EQ(watchers, 0);
}

TEST_F(WatchTest, UnknownExportsAndSequencesToComeAreRefused) {
  const std::string name = Create(Request()).name();
  const auto refusal = [this](const std::string& watched, std::int64_t from) {
    grpc::ClientContext context;
    v1::WatchExportRequest request;
    request.set_name(watched);
    request.set_from_sequence(from);
    const auto stream = exports_->WatchExport(&context, request);
    v1::WatchExportResponse response;
    EXPECT_FALSE(stream->Read(&response));
    return ReasonOf(FromGrpcStatus(stream->Finish(), context));
  };
  EXPECT_EQ(refusal("exports/0000000000000000", 0), Reason::kNotFound);
  EXPECT_EQ(refusal(name, -1), Reason::kInvalidArgument);
  EXPECT_EQ(refusal(name, 1000), Reason::kInvalidArgument);
}

}  // namespace
}  // namespace slipway::server
