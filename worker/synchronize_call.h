// One Synchronize call on its way.
#pragma once

#include <chrono>
#include <functional>
#include <mutex>

#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include "slipway/v1/worker.grpc.pb.h"
#include "slipway/v1/worker.pb.h"

namespace slipway::worker {

// Must outlive its call: destroy it only once answered() is true.
class SynchronizeCall {
 public:
  SynchronizeCall(v1::SynchronizeRequest request, std::chrono::milliseconds timeout);
  SynchronizeCall(const SynchronizeCall&) = delete;
  SynchronizeCall& operator=(const SynchronizeCall&) = delete;

  // Call once. `answered` is called from a thread of gRPC's when the answer or the failure is there; nothing of this
  // object is touched after it.
  void Start(v1::WorkerService::StubInterface& stub, std::function<void()> answered);
  // Ends the call early; it is still answered, with CANCELLED unless the answer is on its way already.
  void Cancel() { context_.TryCancel(); }

  // Valid once answered.
  [[nodiscard]] const grpc::Status& status() const { return status_; }
  [[nodiscard]] v1::SynchronizeResponse& response() { return response_; }
  [[nodiscard]] const grpc::ClientContext& context() const { return context_; }

 private:
  grpc::ClientContext context_;
  v1::SynchronizeRequest request_;
  v1::SynchronizeResponse response_;
  grpc::Status status_;
};

}  // namespace slipway::worker
