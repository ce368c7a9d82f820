#include "server/services/checkpoint_service.h"

#include <utility>

#include "common/error.h"
#include "server/services/call.h"
#include "slipway/v1/export.pb.h"

namespace slipway::server {

grpc::ServerUnaryReactor* CheckpointServiceImpl::InspectCheckpoint(grpc::CallbackServerContext* context,
                                                                   const v1::InspectCheckpointRequest* request,
                                                                   v1::InspectCheckpointResponse* response) {
  auto call = UnaryCall::Make(context, metrics_, "InspectCheckpoint");
  if (const absl::Status checked = CheckCheckpointPath(request->checkpoint(), "checkpoint", roots_); !checked.ok()) {
    call->End(checked);
    return call.get();
  }
  if (!request->hf_config().empty() && request->hf_config().front() != '/') {
    call->End(Error(Reason::kInvalidArgument, "hf_config must be an absolute path."));
    return call.get();
  }
  v1::ExportSpec spec;
  spec.set_hf_config(request->hf_config());
  spec.set_architecture(request->architecture());
  EphemeralTask task{.kind = TaskKind::kInspect,
                     .spec = spec.SerializeAsString(),
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
