// The whole server: store, coordinator, gRPC services, HTTP. Starts in Start, ends in Stop.
#pragma once

#include <memory>
#include <string>

#include <grpcpp/server.h>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/file_system.h"
#include "server/artifact.h"
#include "server/coordinator.h"
#include "server/http/http_server.h"
#include "server/metrics.h"
#include "server/options.h"
#include "server/services/artifact_service.h"
#include "server/services/checkpoint_service.h"
#include "server/services/export_service.h"
#include "server/services/worker_service.h"
#include "server/task_pool.h"

namespace slipway::server {

// Start and Stop on one thread.
class Server {
 public:
  // Locks --data (ABORTED where another server holds it), opens the store, listens. `clock` outlives the server.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerOptions& options, const Clock& clock);
  ~Server();

  // Where it listens: the port is the real one where 0 was asked for.
  [[nodiscard]] const std::string& address() const { return address_; }
  [[nodiscard]] int http_port() const { return http_ ? http_->port() : 0; }
  [[nodiscard]] Coordinator& coordinator() { return *coordinator_; }

  // NOT_SERVING, then no more work, then the end of what runs. Idempotent.
  void Stop();

 private:
  explicit Server(ServerOptions options) : options_(std::move(options)) {}

  absl::Status StartCoordinator(const Clock& clock);
  absl::Status StartRpc();
  absl::Status StartHttp();

  // In the order of construction; destroyed in reverse.
  const ServerOptions options_;
  Metrics metrics_;
  std::unique_ptr<FileLock> data_lock_;
  std::unique_ptr<TaskPool> janitor_;  // removes what failed exports left
  std::unique_ptr<Coordinator> coordinator_;
  std::unique_ptr<TaskPool> files_;  // reads and removes artifacts
  std::unique_ptr<ExportServiceImpl> export_service_;
  std::unique_ptr<WorkerServiceImpl> worker_service_;
  std::unique_ptr<CheckpointServiceImpl> checkpoint_service_;
  std::unique_ptr<ArtifactServiceImpl> artifact_service_;
  std::unique_ptr<grpc::Server> rpc_;
  std::unique_ptr<HttpServer> http_;
  std::string address_;
  std::atomic<bool> draining_{false};
};

}  // namespace slipway::server
