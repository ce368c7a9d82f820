#include "worker/task_execution.h"

#include <exception>
#include <utility>

#include <fmt/format.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/error.h"
#include "common/kill_point.h"
#include "common/rpc/rpc_status.h"

namespace slipway::worker {
namespace {

// Enough of the incarnation to tell apart the processes that ever tried the same epoch (there is one, unless a
// coordinator lost its store).
constexpr std::size_t kIncarnationDigitsInAttempt = 8;

// The coordinator refuses requests past 64 MiB; one report too large would block all that the worker has to say.
constexpr std::size_t kMaximumReportBytes = std::size_t{48} << 20;

// Sets the outcome, or returns the error that is to be it.
absl::Status Dispatch(TaskRunner& runner, const v1::Assignment& assignment, const std::string& incarnation,
                      TaskControl& control, v1::TaskReport& report) {
  switch (assignment.lease().kind()) {
    case v1::TASK_KIND_PLAN:
    case v1::TASK_KIND_VALIDATE: {
      SLIPWAY_ASSIGN_OR_RETURN(*report.mutable_plan(), runner.Plan(assignment, control));
      return absl::OkStatus();
    }
    case v1::TASK_KIND_SHARD: {
      const std::string attempt =
          fmt::format("e{}-{}", assignment.lease().epoch(), incarnation.substr(0, kIncarnationDigitsInAttempt));
      SLIPWAY_ASSIGN_OR_RETURN(*report.mutable_shard(), runner.WriteShard(assignment, attempt, control));
      SLIPWAY_KILL_POINT("worker-shard-written");
      return absl::OkStatus();
    }
    case v1::TASK_KIND_PUBLISH: {
      SLIPWAY_ASSIGN_OR_RETURN(*report.mutable_publish(), runner.Publish(assignment, control));
      SLIPWAY_KILL_POINT("worker-published");
      return absl::OkStatus();
    }
    case v1::TASK_KIND_INSPECT: {
      SLIPWAY_ASSIGN_OR_RETURN(*report.mutable_inspection_json(), runner.Inspect(assignment, control));
      return absl::OkStatus();
    }
    default:
      return Error(Reason::kInternal,
                   fmt::format("this worker does not know task kind {}", static_cast<int>(assignment.lease().kind())));
  }
}

absl::Status DispatchWithoutExceptions(TaskRunner& runner, const v1::Assignment& assignment,
                                       const std::string& incarnation, TaskControl& control, v1::TaskReport& report) {
  try {
    return Dispatch(runner, assignment, incarnation, control, report);
  } catch (const std::exception& exception) {
    return Error(Reason::kInternal, fmt::format("the task ended with an exception: {}", exception.what()));
  } catch (...) {
    return Error(Reason::kInternal, "the task ended with an unknown exception");
  }
}

std::string_view NameOf(v1::TaskKind kind) {
  switch (kind) {
    case v1::TASK_KIND_PLAN:
      return "plan";
    case v1::TASK_KIND_PUBLISH:
      return "publication";
    case v1::TASK_KIND_VALIDATE:
      return "validation";
    case v1::TASK_KIND_INSPECT:
      return "inspection";
    default:
      return "task";
  }
}

}  // namespace

v1::TaskReport ExecuteTask(TaskRunner& runner, const v1::Assignment& assignment, const std::string& incarnation,
                           TaskControl& control) {
  v1::TaskReport report;
  const absl::Status status = DispatchWithoutExceptions(runner, assignment, incarnation, control, report);
  if (!status.ok()) {
    *report.mutable_error() = ToErrorDetail(status);
  } else if (report.ByteSizeLong() > kMaximumReportBytes) {
    *report.mutable_error() =
        ToErrorDetail(Error(Reason::kLimitExceeded, fmt::format("the answer has {} bytes, more than {} can be sent",
                                                                report.ByteSizeLong(), kMaximumReportBytes)));
  }
  *report.mutable_lease() = assignment.lease();
  report.set_bytes_done(control.bytes_done());
  report.set_heartbeat(control.heartbeat());
  return report;
}

std::string DescribeLease(const v1::Lease& lease) {
  if (lease.kind() == v1::TASK_KIND_SHARD) {
    return fmt::format("shard {} of {} (epoch {})", lease.shard(), lease.export_name(), lease.epoch());
  }
  return fmt::format("{} of {} (epoch {})", NameOf(lease.kind()), lease.export_name(), lease.epoch());
}

}  // namespace slipway::worker
