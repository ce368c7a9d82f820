// WorkerService over the coordinator. Thread-safe; everything that it is given outlives it.
#pragma once

#include "server/coordinator.h"
#include "server/metrics.h"
#include "slipway/v1/worker.grpc.pb.h"

namespace slipway::server {

class WorkerServiceImpl final : public v1::WorkerService::CallbackService {
 public:
  WorkerServiceImpl(Coordinator& coordinator, Metrics& metrics) : coordinator_(coordinator), metrics_(metrics) {}

  grpc::ServerUnaryReactor* Synchronize(grpc::CallbackServerContext* context, const v1::SynchronizeRequest* request,
                                        v1::SynchronizeResponse* response) override;

 private:
  Coordinator& coordinator_;
  Metrics& metrics_;
};

}  // namespace slipway::server
