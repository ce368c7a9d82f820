// ExportService over the coordinator. Thread-safe; everything that it is given outlives it.
#pragma once

#include "server/coordinator.h"
#include "server/metrics.h"
#include "server/outputs.h"
#include "server/task_pool.h"
#include "slipway/v1/export.grpc.pb.h"

namespace slipway::server {

class ExportServiceImpl final : public v1::ExportService::CallbackService {
 public:
  ExportServiceImpl(Coordinator& coordinator, TaskPool& files, const OutputRoots& roots, Metrics& metrics)
      : coordinator_(coordinator), files_(files), roots_(roots), metrics_(metrics) {}

  grpc::ServerUnaryReactor* CreateExport(grpc::CallbackServerContext* context, const v1::CreateExportRequest* request,
                                         v1::Export* response) override;
  grpc::ServerUnaryReactor* GetExport(grpc::CallbackServerContext* context, const v1::GetExportRequest* request,
                                      v1::Export* response) override;
  grpc::ServerUnaryReactor* ListExports(grpc::CallbackServerContext* context, const v1::ListExportsRequest* request,
                                        v1::ListExportsResponse* response) override;
  grpc::ServerWriteReactor<v1::WatchExportResponse>* WatchExport(grpc::CallbackServerContext* context,
                                                                 const v1::WatchExportRequest* request) override;
  grpc::ServerUnaryReactor* CancelExport(grpc::CallbackServerContext* context, const v1::CancelExportRequest* request,
                                         v1::Export* response) override;
  grpc::ServerUnaryReactor* DeleteExport(grpc::CallbackServerContext* context, const v1::DeleteExportRequest* request,
                                         v1::DeleteExportResponse* response) override;

 private:
  Coordinator& coordinator_;
  TaskPool& files_;
  const OutputRoots& roots_;
  Metrics& metrics_;
};

}  // namespace slipway::server
