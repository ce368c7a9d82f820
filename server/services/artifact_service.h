// ArtifactService: lists and streams published artifacts. Files are read by the pool, never by gRPC's or the
// coordinator's threads. Thread-safe; everything that it is given outlives it.
#pragma once

#include <atomic>

#include "server/artifact_listings.h"
#include "server/coordinator.h"
#include "server/metrics.h"
#include "server/task_pool.h"
#include "slipway/v1/artifact.grpc.pb.h"

namespace slipway::server {

class ArtifactServiceImpl final : public v1::ArtifactService::CallbackService {
 public:
  ArtifactServiceImpl(Coordinator& coordinator, TaskPool& files, Metrics& metrics)
      : coordinator_(coordinator), files_(files), metrics_(metrics) {}

  grpc::ServerUnaryReactor* ListArtifactFiles(grpc::CallbackServerContext* context,
                                              const v1::ListArtifactFilesRequest* request,
                                              v1::ListArtifactFilesResponse* response) override;
  grpc::ServerWriteReactor<v1::DownloadArtifactFileResponse>* DownloadArtifactFile(
      grpc::CallbackServerContext* context, const v1::DownloadArtifactFileRequest* request) override;

 private:
  Coordinator& coordinator_;
  TaskPool& files_;
  Metrics& metrics_;
  ArtifactListings listings_;
  std::atomic<int> downloads_{0};
};

}  // namespace slipway::server
