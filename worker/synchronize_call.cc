#include "worker/synchronize_call.h"

#include <utility>

namespace slipway::worker {

SynchronizeCall::SynchronizeCall(v1::SynchronizeRequest request, std::chrono::milliseconds timeout)
    : request_(std::move(request)) {
  context_.set_deadline(std::chrono::system_clock::now() + timeout);
}

void SynchronizeCall::Start(v1::WorkerService::StubInterface& stub, std::function<void()> answered) {
  stub.async()->Synchronize(&context_, &request_, &response_,
                            [this, answered = std::move(answered)](grpc::Status status) {
                              status_ = std::move(status);
                              answered();
                            });
}

}  // namespace slipway::worker
