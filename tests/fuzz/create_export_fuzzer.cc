// Bytes -> CreateExportRequest -> validation -> scheduler: whatever a client sends is refused by name or ends.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "common/error.h"
#include "server/scheduling/scheduler.h"
#include "server/services/names.h"
#include "server/services/page_token.h"
#include "server/services/validation.h"

namespace slipway::server {
namespace {

void Require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

void Schedule(const NewExport& created) {
  Scheduler scheduler{SchedulerOptions{}};
  const Instant now{};
  scheduler.Add({.id = "a",
                 .order = 1,
                 .priority = created.priority,
                 .create_time = {},
                 .spec = created.spec,
                 .checkpoint = created.checkpoint,
                 .output = created.output},
                now);
  (void)scheduler.Report({.worker = "w", .incarnation = "1", .version = {}, .free_slots = 1}, now);
  Require(scheduler.Assign("w", now).has_value());
  Require(!scheduler.TakeChanges().empty());
}

}  // namespace
}  // namespace slipway::server

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace server = slipway::server;
  slipway::v1::CreateExportRequest request;
  if (!request.ParseFromArray(data, static_cast<int>(size))) {
    return -1;
  }
  const server::OutputRoots roots{.artifacts = "/nonexistent/artifacts"};
  const auto created = server::ValidateCreate(request, roots);
  if (created.ok()) {
    server::Require(created->output.empty());  // no parent of a publish path exists below the roots
    server::Schedule(*created);
  } else {
    server::Require(slipway::ReasonOf(created.status()) != slipway::Reason::kInternal);
  }
  server::ListQuery query;
  (void)server::ParseFilter(request.request_id(), query);
  (void)server::ParsePageToken(request.spec().architecture(), request.request_id());
  (void)server::ParseExportName(request.spec().checkpoint());
  return 0;
}
