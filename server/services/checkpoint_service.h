// CheckpointService over the coordinator: a worker looks. Thread-safe; everything that it is given outlives it.
#pragma once

#include "server/coordinator.h"
#include "server/metrics.h"
#include "server/outputs.h"
#include "slipway/v1/checkpoint.grpc.pb.h"

namespace slipway::server {

class CheckpointServiceImpl final : public v1::CheckpointService::CallbackService {
 public:
  CheckpointServiceImpl(Coordinator& coordinator, const OutputRoots& roots, Metrics& metrics)
      : coordinator_(coordinator), roots_(roots), metrics_(metrics) {}

  grpc::ServerUnaryReactor* InspectCheckpoint(grpc::CallbackServerContext* context,
                                              const v1::InspectCheckpointRequest* request,
                                              v1::InspectCheckpointResponse* response) override;

 private:
  Coordinator& coordinator_;
  const OutputRoots& roots_;
  Metrics& metrics_;
};

}  // namespace slipway::server
