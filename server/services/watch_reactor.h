// One WatchExport stream: a cursor, at most one batch of messages, and no more, however slow the client is. It asks the
// coordinator for the next batch only when the last one is written.
#pragma once

#include <grpcpp/support/server_callback.h>

#include "server/coordinator.h"
#include "server/metrics.h"
#include "slipway/v1/export.pb.h"

namespace slipway::server {

// Starts the stream; it deletes itself. `coordinator` and `metrics` outlive it.
grpc::ServerWriteReactor<v1::WatchExportResponse>* StartWatch(grpc::CallbackServerContext* context,
                                                              const v1::WatchExportRequest& request,
                                                              Coordinator& coordinator, Metrics& metrics);

}  // namespace slipway::server
