// The services that every gRPC tool expects: health (grpc.health.v1) and reflection. Called as such a tool calls them,
// in the bytes of their messages, so that nothing of the server's own vouches for itself.
#include <future>
#include <optional>
#include <string>

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "tests/server/services/service_fixture.h"

namespace slipway::server {
namespace {

using testing::HasSubstr;

// HealthCheckResponse{status: SERVING} and {status: NOT_SERVING}: field 1, a varint.
const std::string kServing("\x08\x01", 2);
const std::string kNotServing("\x08\x02", 2);
// ServerReflectionRequest{list_services: "*"}: field 7, one byte.
const std::string kListServices("\x3a\x01*", 3);

// One call with one request message, and any number of answers.
class RawCall {
 public:
  RawCall(const std::shared_ptr<grpc::Channel>& channel, const std::string& method, const std::string& request)
      : stub_(channel) {
    context_.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    call_ = stub_.PrepareCall(&context_, method, &queue_);
    call_->StartCall(nullptr);
    Await();
    const grpc::Slice slice(request);
    call_->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), nullptr);
    Await();
  }
  ~RawCall() {
    context_.TryCancel();
    queue_.Shutdown();
    void* tag = nullptr;
    for (bool ok = false; queue_.Next(&tag, &ok);) {
    }
  }
  RawCall(const RawCall&) = delete;
  RawCall& operator=(const RawCall&) = delete;

  // The next answer's bytes; nothing at the end of the call.
  std::optional<std::string> Read() {
    grpc::ByteBuffer buffer;
    call_->Read(&buffer, nullptr);
    grpc::Slice slice;
    if (!Await() || !buffer.TrySingleSlice(&slice).ok()) {
      return std::nullopt;
    }
    return std::string(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }

 private:
  bool Await() {
    void* tag = nullptr;
    bool ok = false;
    return queue_.Next(&tag, &ok) && ok;
  }

  grpc::GenericStub stub_;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
};

using StandardServicesTest = ServiceTest;

TEST_F(StandardServicesTest, TheServerIsHealthyAsAWhole) {
  RawCall check(channel_, "/grpc.health.v1.Health/Check", "");
  EXPECT_EQ(check.Read(), kServing);
}

TEST_F(StandardServicesTest, WhoeverWatchesItsHealthIsToldWhenItShutsDown) {
  RawCall watch(channel_, "/grpc.health.v1.Health/Watch", "");
  ASSERT_EQ(watch.Read(), kServing);
  const auto stopped = std::async(std::launch::async, [this] { server_->Stop(); });
  EXPECT_EQ(watch.Read(), kNotServing);
}

TEST_F(StandardServicesTest, ReflectionListsEveryServiceOfTheContract) {
  RawCall reflection(channel_, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", kListServices);
  const std::optional<std::string> services = reflection.Read();
  ASSERT_TRUE(services);
  for (const char* service : {"slipway.v1.ExportService", "slipway.v1.ArtifactService", "slipway.v1.CheckpointService",
                              "slipway.v1.WorkerService", "grpc.health.v1.Health"}) {
    EXPECT_THAT(*services, HasSubstr(service));
  }
}

}  // namespace
}  // namespace slipway::server
