#include "server/services/checkpoint_service.h"

#include <utility>

#include "server/services/call.h"

namespace slipway::server {

grpc::ServerUnaryReactor* CheckpointServiceImpl::InspectCheckpoint(grpc::CallbackServerContext* context,
                                                                   const v1::InspectCheckpointRequest* request,
                                                                   v1::InspectCheckpointResponse* response) {
  auto call = UnaryCall::Make(context, metrics_, "InspectCheckpoint");
  if (const absl::Status checked = CheckCheckpointPath(request->checkpoint(), "checkpoint", roots_); !checked.ok()) {
    call->End(checked);
    return call.get();
  }
  EphemeralTask task{.kind = TaskKind::kInspect,
                     .checkpoint = request->checkpoint(),
                     .iteration = request->has_iteration() ? std::optional(request->iteration()) : std::nullopt,
                     .inspect_tensors = request->tensors()};
  const Coordinator::Ticket ticket = coordinator_.NewTicket();
  call->WhenCancelled([this, ticket] { coordinator_.Abandon(ticket); });
  coordinator_.RunEphemeral(ticket, std::move(task), [call, response](absl::StatusOr<Outcome> outcome) {
    if (outcome.ok()) {
      response->set_inspection_json(std::move(std::get<Inspected>(*outcome).inspection_json));
    }
    call->End(outcome.status());
  });
  return call.get();
}

}  // namespace slipway::server
