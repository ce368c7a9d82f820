#include "server/services/worker_service.h"

#include <utility>

#include "server/services/call.h"
#include "server/services/conversion.h"

namespace slipway::server {

grpc::ServerUnaryReactor* WorkerServiceImpl::Synchronize(grpc::CallbackServerContext* context,
                                                         const v1::SynchronizeRequest* request,
                                                         v1::SynchronizeResponse* response) {
  auto call = UnaryCall::Make(context, metrics_, "Synchronize");
  absl::StatusOr<WorkerReport> report = FromMessage(*request);
  if (!report.ok()) {
    call->End(report.status());
    return call.get();
  }
  const Coordinator::Ticket ticket = coordinator_.NewTicket();
  call->WhenCancelled([this, ticket] { coordinator_.Abandon(ticket); });
  coordinator_.Synchronize(ticket, *std::move(report),
                           [call, response](const absl::StatusOr<SynchronizeAnswer>& answer) {
                             if (answer.ok()) {
                               *response = ToMessage(*answer);
                             }
                             call->End(answer.status());
                           });
  return call.get();
}

}  // namespace slipway::server
