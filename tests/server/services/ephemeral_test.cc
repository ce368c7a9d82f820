// Calls that a worker answers and that leave nothing: InspectCheckpoint and validate_only.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/services/service_fixture.h"

namespace slipway::server {
namespace {

using testing::HasSubstr;

class EphemeralTest : public ServiceTest {
 protected:
  absl::Status Inspect(const std::string& checkpoint, std::string* json = nullptr) {
    v1::InspectCheckpointRequest request;
    request.set_checkpoint(checkpoint);
    v1::InspectCheckpointResponse response;
    absl::Status status = StatusOf(
        [&](grpc::ClientContext& context) { return checkpoints_->InspectCheckpoint(&context, request, &response); });
    if (json != nullptr) {
      *json = response.inspection_json();
    }
    return status;
  }
};

class ImpatientEphemeralTest : public EphemeralTest {
 protected:
  ImpatientEphemeralTest() {
    StopServer();
    options_.coordinator.no_worker_wait = std::chrono::milliseconds(150);
    StartServer();
  }
};

TEST_F(EphemeralTest, AWorkerInspectsAndTheCallerGetsWhatItSaid) {
  const FakeWorker worker(channel_, "w");
  std::string json;
  ASSERT_TRUE(Inspect("/checkpoints/llama", &json).ok());
  EXPECT_EQ(json, R"({"checkpoint": "/checkpoints/llama"})");
}

TEST_F(EphemeralTest, AWorkersRefusalReachesTheCallerWithItsReason) {
  const FakeWorker worker(channel_, "w", [](const v1::Assignment&, v1::TaskReport& report) {
    report.mutable_error()->set_reason(v1::ERROR_REASON_PICKLE_FORBIDDEN_GLOBAL);
    report.mutable_error()->set_message("os.system");
    report.mutable_error()->set_file("common.pt");
    report.mutable_error()->set_offset(17);
  });
  const absl::Status status = Inspect("/checkpoints/llama");
  EXPECT_EQ(ReasonOf(status), Reason::kPickleForbiddenGlobal);
  EXPECT_EQ(WhereOf(status).file, "common.pt");
  EXPECT_EQ(WhereOf(status).offset, 17);
}

TEST_F(EphemeralTest, MalformedPathsAreRefusedWithoutAWorker) {
  EXPECT_EQ(ReasonOf(Inspect("relative")), Reason::kInvalidArgument);
  EXPECT_EQ(ReasonOf(Inspect("/a/../b")), Reason::kPathOutsideRoot);
}

TEST_F(ImpatientEphemeralTest, WithoutAWorkerTheCallerIsToldSo) {
  const absl::Status status = Inspect("/checkpoints/llama");
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("No worker"));
}

}  // namespace
}  // namespace slipway::server
