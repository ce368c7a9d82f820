#include "client/export_client.h"

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "common/rpc/rpc_status.h"
#include "tests/client/fake_server.h"

namespace slipway {
namespace {

using testing::ElementsAre;

// Patience without waiting.
RetryPolicy Impatient() {
  return {.attempts = 5, .wait = [](std::chrono::milliseconds, const std::stop_token&) {}};
}

// An export with five events whose stream breaks as often as it is told to.
class FakeExports : public v1::ExportService::Service {
 public:
  std::vector<std::int64_t> resumed_from;  // from_sequence of each watch
  std::vector<std::string> request_ids;
  int unavailable_answers = 0;  // of CreateExport, before the first good one
  int events_a_stream = 5;
  std::int64_t skipped_event = 0;
  bool repeat_one = false;

  grpc::Status CreateExport(grpc::ServerContext*, const v1::CreateExportRequest* request, v1::Export* item) override {
    request_ids.push_back(request->request_id());
    if (unavailable_answers-- > 0) {
      return {grpc::StatusCode::UNAVAILABLE, "away"};
    }
    item->set_name("exports/1");
    return grpc::Status::OK;
  }

  grpc::Status GetExport(grpc::ServerContext* context, const v1::GetExportRequest* request, v1::Export* item) override {
    if (request->name() != "exports/1") {
      return ToGrpcStatus(Error(Reason::kNotFound, "no such export"), *context);
    }
    item->set_name("exports/1");
    item->set_state(v1::EXPORT_STATE_SUCCEEDED);
    return grpc::Status::OK;
  }

  grpc::Status WatchExport(grpc::ServerContext*, const v1::WatchExportRequest* request,
                           grpc::ServerWriter<v1::WatchExportResponse>* writer) override {
    resumed_from.push_back(request->from_sequence());
    v1::WatchExportResponse update;
    update.mutable_snapshot()->set_state(v1::EXPORT_STATE_RUNNING);
    writer->Write(update);
    std::int64_t first = request->from_sequence() + 1;
    if (repeat_one && first > 1) {
      --first;
    }
    for (std::int64_t sequence = first; sequence < first + events_a_stream && sequence <= 5; ++sequence) {
      if (sequence == skipped_event) {
        continue;
      }
      update.mutable_event()->set_sequence(sequence);
      update.mutable_event()->set_state(sequence == 5 ? v1::EXPORT_STATE_SUCCEEDED : v1::EXPORT_STATE_RUNNING);
      writer->Write(update);
      if (sequence == 5) {
        return grpc::Status::OK;
      }
    }
    return {grpc::StatusCode::UNAVAILABLE, "restarting"};
  }
};

std::vector<std::int64_t> WatchAll(FakeExports& exports, absl::Status* status = nullptr) {
  const FakeServer server(exports);
  std::vector<std::int64_t> seen;
  const auto finished =
      ExportClient(server.Dial(), Impatient()).Watch("exports/1", 0, {.event = [&](const v1::ExportEvent& event) {
                                                       seen.push_back(event.sequence());
                                                     }});
  if (status != nullptr) {
    *status = finished.status();
  } else {
    EXPECT_TRUE(finished.ok()) << finished.status().ToString();
    EXPECT_EQ(finished.value_or(v1::Export()).state(), v1::EXPORT_STATE_SUCCEEDED);
  }
  return seen;
}

TEST(Watch, AnUnbrokenStreamGivesEveryEventOnce) {
  FakeExports exports;
  EXPECT_THAT(WatchAll(exports), ElementsAre(1, 2, 3, 4, 5));
  EXPECT_THAT(exports.resumed_from, ElementsAre(0));
}

TEST(Watch, ABrokenStreamGoesOnAfterTheLastEvent) {
  FakeExports exports;
  exports.events_a_stream = 2;
  EXPECT_THAT(WatchAll(exports), ElementsAre(1, 2, 3, 4, 5));
  EXPECT_THAT(exports.resumed_from, ElementsAre(0, 2, 4));
}

TEST(Watch, AnEventThatComesAgainIsPassedOnOnce) {
  FakeExports exports;
  exports.events_a_stream = 3;
  exports.repeat_one = true;
  EXPECT_THAT(WatchAll(exports), ElementsAre(1, 2, 3, 4, 5));
}

TEST(Watch, AGapIsAnErrorAndNotPassedOver) {
  FakeExports exports;
  exports.skipped_event = 3;
  absl::Status status;
  EXPECT_THAT(WatchAll(exports, &status), ElementsAre(1, 2));
  EXPECT_EQ(ReasonOf(status), Reason::kInternal);
}

TEST(Watch, AStopRequestEndsTheWaitForAServer) {
  FakeExports exports;
  exports.events_a_stream = 0;
  const FakeServer server(exports);
  int waits = 0;
  std::stop_source stop;
  RetryPolicy policy = Impatient();
  policy.wait = [&](std::chrono::milliseconds, const std::stop_token&) {
    if (++waits == 3) {
      stop.request_stop();
    }
  };
  const auto finished = ExportClient(server.Dial(), policy).Watch("exports/1", 0, {}, stop.get_token());
  EXPECT_EQ(ReasonOf(finished.status()), Reason::kCancelled);
  EXPECT_EQ(waits, 3);
}

TEST(Create, TheSameRequestIdIsSentUntilItIsAnswered) {
  FakeExports exports;
  exports.unavailable_answers = 2;
  const FakeServer server(exports);
  const auto created = ExportClient(server.Dial(), Impatient()).Create({});
  ASSERT_TRUE(created.ok());
  EXPECT_EQ(created->name(), "exports/1");
  ASSERT_EQ(exports.request_ids.size(), 3U);
  EXPECT_EQ(exports.request_ids[0].size(), 36U);
  EXPECT_THAT(exports.request_ids, testing::Each(exports.request_ids[0]));
}

TEST(Create, AServerThatStaysAwayIsUnreachable) {
  FakeExports exports;
  exports.unavailable_answers = 1000;
  const FakeServer server(exports);
  const auto created = ExportClient(server.Dial(), Impatient()).Create({});
  EXPECT_EQ(ReasonOf(created.status()), Reason::kServerUnreachable);
  EXPECT_EQ(exports.request_ids.size(), 5U);
}

TEST(Get, TheServersReasonArrives) {
  FakeExports exports;
  const FakeServer server(exports);
  const auto item = ExportClient(server.Dial(), Impatient()).Get("exports/2");
  EXPECT_EQ(ReasonOf(item.status()), Reason::kNotFound);
  EXPECT_TRUE(ExportClient(server.Dial(), Impatient()).Get("1").ok());  // short for exports/1
}

TEST(RequestId, IsARandomUuid) {
  const std::string id = MakeRequestId();
  EXPECT_THAT(id, testing::MatchesRegex("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"));
  EXPECT_NE(id, MakeRequestId());
}

}  // namespace
}  // namespace slipway
