#include "server/services/export_service.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "server/services/call.h"
#include "server/services/conversion.h"
#include "server/services/names.h"
#include "server/services/page_token.h"
#include "server/services/validation.h"
#include "server/services/watch_reactor.h"

namespace slipway::server {
namespace {

constexpr std::int32_t kDefaultPageSize = 50;
constexpr std::int32_t kMaximumPageSize = 1000;

// Fills the response with the export and ends the call.
Reply<ExportView> AnswerWithExport(std::shared_ptr<UnaryCall> call, v1::Export* response) {
  return [call = std::move(call), response](const absl::StatusOr<ExportView>& view) {
    if (view.ok()) {
      *response = ToMessage(*view);
    }
    call->End(view.status());
  };
}

// The answer to validate_only: an export without a name that only has a plan.
Reply<Outcome> AnswerWithPlan(std::shared_ptr<UnaryCall> call, v1::ExportSpec spec, v1::Export* response) {
  return [call = std::move(call), spec = std::move(spec), response](const absl::StatusOr<Outcome>& outcome) {
    if (outcome.ok()) {
      const Planned& planned = std::get<Planned>(*outcome);
      *response->mutable_spec() = spec;
      response->mutable_plan()->ParseFromString(planned.summary);
      response->mutable_plan()->set_plan_json(planned.plan_json);
    }
    call->End(outcome.status());
  };
}

absl::StatusOr<ListQuery> QueryOf(const v1::ListExportsRequest& request) {
  if (request.page_size() < 0) {
    return Error(Reason::kInvalidArgument, "page_size must not be negative.");
  }
  const std::int32_t size = request.page_size() == 0 ? kDefaultPageSize : request.page_size();
  // One more than the page shows whether there is another.
  ListQuery query{.limit = static_cast<std::size_t>(std::min(size, kMaximumPageSize)) + 1};
  SLIPWAY_RETURN_IF_ERROR(ParseFilter(request.filter(), query));
  if (!request.page_token().empty()) {
    SLIPWAY_ASSIGN_OR_RETURN(query.before_order, ParsePageToken(request.page_token(), request.filter()));
  }
  return query;
}

}  // namespace

grpc::ServerUnaryReactor* ExportServiceImpl::CreateExport(grpc::CallbackServerContext* context,
                                                          const v1::CreateExportRequest* request,
                                                          v1::Export* response) {
  auto call = UnaryCall::Make(context, metrics_, "CreateExport");
  absl::StatusOr<NewExport> created = ValidateCreate(*request, roots_);
  if (!created.ok()) {
    call->End(created.status());
  } else if (request->validate_only()) {
    EphemeralTask task{.kind = TaskKind::kValidate,
                       .spec = created->spec,
                       .output = created->output,
                       .omit_tensors = request->omit_tensors()};
    const Coordinator::Ticket ticket = coordinator_.NewTicket();
    call->WhenCancelled([this, ticket] { coordinator_.Abandon(ticket); });
    coordinator_.RunEphemeral(ticket, std::move(task), AnswerWithPlan(call, request->spec(), response));
  } else {
    coordinator_.Create(*std::move(created), AnswerWithExport(call, response));
  }
  return call.get();
}

grpc::ServerUnaryReactor* ExportServiceImpl::GetExport(grpc::CallbackServerContext* context,
                                                       const v1::GetExportRequest* request, v1::Export* response) {
  auto call = UnaryCall::Make(context, metrics_, "GetExport");
  if (const absl::StatusOr<std::string> id = ParseExportName(request->name()); id.ok()) {
    coordinator_.Get(*id, AnswerWithExport(call, response));
  } else {
    call->End(id.status());
  }
  return call.get();
}

grpc::ServerUnaryReactor* ExportServiceImpl::ListExports(grpc::CallbackServerContext* context,
                                                         const v1::ListExportsRequest* request,
                                                         v1::ListExportsResponse* response) {
  auto call = UnaryCall::Make(context, metrics_, "ListExports");
  const absl::StatusOr<ListQuery> query = QueryOf(*request);
  if (!query.ok()) {
    call->End(query.status());
    return call.get();
  }
  const std::size_t page = query->limit - 1;
  coordinator_.List(*query, [call, response, page,
                             filter = request->filter()](const absl::StatusOr<std::vector<ExportView>>& views) {
    std::size_t bytes = 0;
    for (std::size_t i = 0; views.ok() && i < std::min(page, views->size()); ++i) {
      v1::Export& listed = *response->add_exports();
      listed = ToMessage((*views)[i]);
      listed.mutable_spec()->clear_recipe();
      bytes += (*views)[i].record.spec.size();
    }
    if (views.ok() && (views->size() > page || bytes > kMaximumListBytes)) {
      response->set_next_page_token(MakePageToken((*views)[std::min(page, views->size()) - 1].record.order, filter));
    }
    call->End(views.status());
  });
  return call.get();
}

grpc::ServerWriteReactor<v1::WatchExportResponse>* ExportServiceImpl::WatchExport(
    grpc::CallbackServerContext* context, const v1::WatchExportRequest* request) {
  return StartWatch(context, *request, coordinator_, metrics_);
}

grpc::ServerUnaryReactor* ExportServiceImpl::CancelExport(grpc::CallbackServerContext* context,
                                                          const v1::CancelExportRequest* request,
                                                          v1::Export* response) {
  auto call = UnaryCall::Make(context, metrics_, "CancelExport");
  if (const absl::StatusOr<std::string> id = ParseExportName(request->name()); id.ok()) {
    coordinator_.Cancel(*id, AnswerWithExport(call, response));
  } else {
    call->End(id.status());
  }
  return call.get();
}

// First the artifact, then the record: a crash between the two leaves an export that can be deleted again, never an
// artifact that nobody knows.
grpc::ServerUnaryReactor* ExportServiceImpl::DeleteExport(grpc::CallbackServerContext* context,
                                                          const v1::DeleteExportRequest* request,
                                                          v1::DeleteExportResponse* /*response*/) {
  auto call = UnaryCall::Make(context, metrics_, "DeleteExport");
  const absl::StatusOr<std::string> id = ParseExportName(request->name());
  if (!id.ok()) {
    call->End(id.status());
    return call.get();
  }
  const auto forget = [this, call, id = *id] {
    coordinator_.Delete(id, [call](const absl::StatusOr<ExportRecord>& record) { call->End(record.status()); });
  };
  coordinator_.Get(*id, [this, call, forget, keep = request->keep_artifact()](const absl::StatusOr<ExportView>& view) {
    if (!view.ok()) {
      call->End(view.status());
      return;
    }
    const ExportRecord& record = view->record;
    if (keep || record.state != ExportState::kSucceeded) {
      forget();  // refuses where the export has not ended
      return;
    }
    const bool taken = files_.Submit([call, forget, path = record.artifact_path] {
      if (const absl::Status removed = RemoveArtifact(path); removed.ok()) {
        forget();
      } else {
        call->End(removed);
      }
    });
    if (!taken) {
      call->End(Error(Reason::kServerOverloaded, "Too many artifacts are being read or removed; try again."));
    }
  });
  return call.get();
}

}  // namespace slipway::server
