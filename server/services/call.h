// What every reactor of the services shares: it ends once, counts itself, turns errors into what travels, and lives
// until gRPC is done with it and nobody holds it any more.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/error.h"
#include "common/rpc/rpc_status.h"
#include "server/metrics.h"

namespace slipway::server {

// gRPC's own retry reads this trailing metadata.
inline constexpr char kRetryMetadataKey[] = "grpc-retry-pushback-ms";
inline constexpr char kRetryMilliseconds[] = "500";

// The status that a call ends with, its trailing metadata in `context`; counts the call.
inline grpc::Status EndCall(const absl::Status& status, grpc::CallbackServerContext& context, Metrics& metrics,
                            const char* method, std::chrono::steady_clock::time_point start) {
  if (ReasonOf(status) == Reason::kServerOverloaded) {
    context.AddTrailingMetadata(kRetryMetadataKey, kRetryMilliseconds);
  }
  metrics.CountRpc(method, absl::StatusCodeToString(status.code()),
                   std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  return ToGrpcStatus(status, context);
}

// One unary call. `Made` by a service method, which returns get() to gRPC and keeps the shared_ptr in whatever will
// finish it.
class UnaryCall final : public grpc::ServerUnaryReactor {
 public:
  static std::shared_ptr<UnaryCall> Make(grpc::CallbackServerContext* context, Metrics& metrics, const char* method) {
    auto call = std::shared_ptr<UnaryCall>(new UnaryCall(context, metrics, method));
    call->self_ = call;
    return call;
  }

  // Ends the call; exactly once, on any thread. The response must be filled in before.
  void End(const absl::Status& status) { Finish(EndCall(status, *context_, metrics_, method_, start_)); }

  // Called when the client goes away before the end. Set it before the service method returns.
  void WhenCancelled(std::function<void()> action) { when_cancelled_ = std::move(action); }

  void OnCancel() override {
    if (when_cancelled_) {
      when_cancelled_();
    }
  }
  void OnDone() override { self_.reset(); }

 private:
  UnaryCall(grpc::CallbackServerContext* context, Metrics& metrics, const char* method)
      : context_(context), metrics_(metrics), method_(method) {}

  grpc::CallbackServerContext* const context_;
  Metrics& metrics_;
  const char* const method_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::function<void()> when_cancelled_;
  std::shared_ptr<UnaryCall> self_;
};

}  // namespace slipway::server
