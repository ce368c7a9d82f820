// A whole server on a Unix socket in a temporary directory, stubs for it, and a worker that does what the test says.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include "common/rpc/rpc_status.h"
#include "server/server.h"
#include "slipway/v1/artifact.grpc.pb.h"
#include "slipway/v1/checkpoint.grpc.pb.h"
#include "slipway/v1/export.grpc.pb.h"
#include "slipway/v1/worker.grpc.pb.h"
#include "tests/support/temporary_directory.h"

namespace slipway::server {

// Speaks Synchronize in a thread of its own. Every task succeeds at once unless `on_task` says otherwise.
class FakeWorker {
 public:
  // Fills in the outcome; leaving it empty means that the task goes on (its heartbeat moves with each call).
  using OnTask = std::function<void(const v1::Assignment& assignment, v1::TaskReport& report)>;

  FakeWorker(const std::shared_ptr<grpc::Channel>& channel, std::string name, OnTask on_task = Succeed)
      : stub_(v1::WorkerService::NewStub(channel)),
        name_(std::move(name)),
        on_task_(std::move(on_task)),
        thread_([this] { Run(); }) {}
  ~FakeWorker() {
    stopped_ = true;
    {
      const std::lock_guard lock(mutex_);
      if (context_ != nullptr) {
        context_->TryCancel();
      }
    }
    thread_.join();
  }

  // Two shards of 1000 bytes; the publication writes an artifact of two files.
  static void Succeed(const v1::Assignment& assignment, v1::TaskReport& report);

  [[nodiscard]] int revoked() const { return revoked_; }
  [[nodiscard]] int assigned() const { return assigned_; }

 private:
  void Run();

  const std::unique_ptr<v1::WorkerService::Stub> stub_;
  const std::string name_;
  const OnTask on_task_;
  std::atomic<bool> stopped_{false};
  std::atomic<int> revoked_{0};
  std::atomic<int> assigned_{0};
  std::mutex mutex_;
  grpc::ClientContext* context_ = nullptr;  // guarded by mutex_
  std::thread thread_;
};

class ServiceTest : public testing::Test {
 protected:
  ServiceTest() { StartServer(); }

  void StartServer();
  void StopServer();
  // As after a crash and a new start: same store, same socket.
  void RestartServer() {
    StopServer();
    StartServer();
  }

  [[nodiscard]] std::string Artifacts() const { return directory_.path() + "/artifacts"; }
  [[nodiscard]] v1::CreateExportRequest Request(const std::string& request_id = "") const;

  // Calls that must succeed.
  v1::Export Create(const v1::CreateExportRequest& request);
  v1::Export Get(const std::string& name);
  // Watches until the end; the events.
  std::vector<v1::ExportEvent> WatchToTheEnd(const std::string& name, std::int64_t from_sequence = 0);
  // Waits until the export is in that state, through a watch.
  void AwaitState(const std::string& name, v1::ExportState state);

  // The error of a unary call, with its ErrorDetail checked to be there; OK where it succeeded.
  template <typename Call>
  absl::Status StatusOf(Call call) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    const grpc::Status status = call(context);
    if (!status.ok()) {
      EXPECT_EQ(context.GetServerTrailingMetadata().count(kErrorMetadataKey), 1U) << status.error_message();
    }
    return FromGrpcStatus(status, context);
  }
  absl::Status CreateStatus(const v1::CreateExportRequest& request, v1::Export* response = nullptr);

  test::TemporaryDirectory directory_;
  ServerOptions options_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::ExportService::Stub> exports_;
  std::unique_ptr<v1::ArtifactService::Stub> artifacts_;
  std::unique_ptr<v1::CheckpointService::Stub> checkpoints_;
};

}  // namespace slipway::server
