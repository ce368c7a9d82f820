// Between the wire's messages and the coordinator's types.
#pragma once

#include "absl/status/statusor.h"
#include "server/coordinator.h"
#include "slipway/v1/export.pb.h"
#include "slipway/v1/worker.pb.h"

namespace slipway::server {

v1::Export ToMessage(const ExportView& view);
v1::ExportEvent ToMessage(const EventRecord& event);
v1::Progress ToMessage(const ExportProgress& progress, ExportState state);

// INVALID_ARGUMENT names what is malformed.
absl::StatusOr<WorkerReport> FromMessage(const v1::SynchronizeRequest& request);
v1::SynchronizeResponse ToMessage(const SynchronizeAnswer& answer);

}  // namespace slipway::server
