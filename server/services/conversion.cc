#include "server/services/conversion.h"

#include <utility>

#include <fmt/format.h>

#include "common/error.h"
#include "common/rpc/rpc_status.h"
#include "server/services/names.h"

namespace slipway::server {
namespace {

constexpr std::size_t kMaximumWorkerName = 256;
constexpr int kMaximumReports = 4096;

void SetTime(Clock::Wall time, google::protobuf::Timestamp& stamp) {
  const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
  stamp.set_seconds(nanoseconds / 1'000'000'000);
  stamp.set_nanos(static_cast<std::int32_t>(nanoseconds % 1'000'000'000));
}

void SetDuration(std::chrono::milliseconds time, google::protobuf::Duration& duration) {
  duration.set_seconds(time.count() / 1000);
  duration.set_nanos(static_cast<std::int32_t>(time.count() % 1000) * 1'000'000);
}

const char* PhaseOf(ExportState state) {
  switch (state) {
    case ExportState::kQueued:
      return "queued";
    case ExportState::kPlanning:
      return "planning";
    case ExportState::kRunning:
    case ExportState::kCancelling:
      return "writing";
    case ExportState::kPublishing:
      return "publishing";
    default:
      return "done";
  }
}

v1::Attempt ToMessage(const AttemptRecord& record) {
  v1::Attempt attempt;
  attempt.set_task(record.kind == TaskKind::kPlan ? "plan" : record.kind == TaskKind::kShard ? "shard" : "publish");
  attempt.set_shard(record.shard);
  attempt.set_worker(record.worker);
  attempt.set_epoch(record.epoch);
  SetTime(record.start_time, *attempt.mutable_start_time());
  if (record.end_time) {
    SetTime(*record.end_time, *attempt.mutable_end_time());
  }
  if (!record.error.ok()) {
    *attempt.mutable_error() = ToErrorDetail(record.error);
  }
  attempt.set_export_fault(record.export_fault);
  return attempt;
}

// Made-up names of ephemeral tasks travel as they are, exports with their prefix.
std::string LeaseName(const LeaseKey& lease) {
  const bool ephemeral = lease.kind == TaskKind::kValidate || lease.kind == TaskKind::kInspect;
  return ephemeral ? lease.export_id : ExportName(lease.export_id);
}

v1::Lease ToMessage(const LeaseKey& key) {
  v1::Lease lease;
  lease.set_export_name(LeaseName(key));
  lease.set_kind(static_cast<v1::TaskKind>(key.kind));
  lease.set_shard(key.shard);
  lease.set_epoch(key.epoch);
  return lease;
}

LeaseKey FromMessage(const v1::Lease& lease) {
  const absl::StatusOr<std::string> id = ParseExportName(lease.export_name());
  return {id.ok() ? *id : lease.export_name(), static_cast<TaskKind>(lease.kind()), lease.shard(), lease.epoch()};
}

Planned FromMessage(const v1::PlanSummary& plan) {
  Planned planned{.plan_hash = plan.plan_hash(),
                  .shard_bytes = {plan.shard_bytes().begin(), plan.shard_bytes().end()},
                  .summary = {},
                  .plan_json = plan.plan_json()};
  v1::PlanSummary summary = plan;
  summary.clear_plan_json();
  planned.summary = summary.SerializeAsString();
  return planned;
}

Outcome OutcomeOf(const v1::TaskReport& report) {
  switch (report.outcome_case()) {
    case v1::TaskReport::kPlan:
      return FromMessage(report.plan());
    case v1::TaskReport::kShard: {
      const v1::ShardResult& shard = report.shard();
      return ShardWritten{shard.file(), shard.size(), shard.digest(), shard.bytes_written()};
    }
    case v1::TaskReport::kPublish:
      return Published{report.publish().path(), report.publish().manifest_digest()};
    case v1::TaskReport::kInspectionJson:
      return Inspected{report.inspection_json()};
    case v1::TaskReport::kError:
      return FromErrorDetail(report.error());
    case v1::TaskReport::OUTCOME_NOT_SET:
      break;
  }
  return StillRunning{};
}

}  // namespace

v1::Progress ToMessage(const ExportProgress& progress, ExportState state) {
  v1::Progress message;
  message.set_bytes_done(progress.bytes_done);
  message.set_bytes_total(progress.bytes_total);
  message.set_shards_done(progress.shards_done);
  message.set_shards_total(progress.shards_total);
  message.set_phase(PhaseOf(state));
  return message;
}

v1::Export ToMessage(const ExportView& view) {
  const ExportRecord& record = view.record;
  v1::Export message;
  message.set_name(ExportName(record.id));
  message.mutable_spec()->ParseFromString(record.spec);
  message.set_state(static_cast<v1::ExportState>(record.state));
  message.set_priority(record.priority);
  SetTime(record.create_time, *message.mutable_create_time());
  if (record.end_time) {
    SetTime(*record.end_time, *message.mutable_end_time());
  }
  if (!record.plan.empty()) {
    message.mutable_plan()->ParseFromString(record.plan);
  }
  *message.mutable_progress() = ToMessage(view.progress, record.state);
  if (record.state == ExportState::kFailed) {
    *message.mutable_error() = ToErrorDetail(record.error);
  }
  for (const AttemptRecord& attempt : view.attempts) {
    *message.add_attempts() = ToMessage(attempt);
  }
  message.set_artifact_path(record.artifact_path);
  message.set_last_sequence(record.last_sequence);
  message.set_queue_position(view.queue_position);
  return message;
}

v1::ExportEvent ToMessage(const EventRecord& event) {
  v1::ExportEvent message;
  message.set_sequence(event.sequence);
  SetTime(event.time, *message.mutable_time());
  message.set_kind(event.kind);
  message.set_state(static_cast<v1::ExportState>(event.state));
  message.set_message(event.message);
  message.set_shard(event.shard);
  if (!event.error.ok()) {
    *message.mutable_error() = ToErrorDetail(event.error);
  }
  return message;
}

absl::StatusOr<WorkerReport> FromMessage(const v1::SynchronizeRequest& request) {
  if (request.worker().empty() || request.worker().size() > kMaximumWorkerName || request.incarnation().empty() ||
      request.incarnation().size() > kMaximumWorkerName) {
    return Error(Reason::kInvalidArgument,
                 fmt::format("worker and incarnation must have 1 to {} bytes.", kMaximumWorkerName));
  }
  if (request.tasks_size() > kMaximumReports) {
    return Error(Reason::kInvalidArgument, fmt::format("More than {} task reports.", kMaximumReports));
  }
  WorkerReport report{.worker = request.worker(),
                      .incarnation = request.incarnation(),
                      .version = request.version(),
                      .free_slots = request.free_slots(),
                      .draining = request.draining()};
  for (const v1::TaskReport& task : request.tasks()) {
    report.tasks.push_back({FromMessage(task.lease()), task.bytes_done(), task.heartbeat(), OutcomeOf(task)});
  }
  return report;
}

v1::SynchronizeResponse ToMessage(const SynchronizeAnswer& answer) {
  v1::SynchronizeResponse message;
  for (const Assigned& assigned : answer.assignments) {
    v1::Assignment& assignment = *message.add_assignments();
    *assignment.mutable_lease() = ToMessage(assigned.lease);
    v1::ExportSpec& spec = *assignment.mutable_spec();
    spec.ParseFromString(assigned.spec);
    v1::PlanSummary plan;
    if (plan.ParseFromString(assigned.plan) && plan.has_iteration()) {
      spec.set_iteration(plan.iteration());
    }
    assignment.set_output(assigned.output);
    assignment.set_plan_hash(assigned.plan_hash);
    assignment.set_checkpoint(assigned.ephemeral.checkpoint);
    if (assigned.ephemeral.iteration) {
      assignment.set_iteration(*assigned.ephemeral.iteration);
    }
    assignment.set_inspect_tensors(assigned.ephemeral.inspect_tensors);
    assignment.set_omit_tensors(assigned.ephemeral.omit_tensors);
    SetDuration(assigned.lease_duration, *assignment.mutable_lease_duration());
  }
  for (const LeaseKey& lease : answer.revoked) {
    *message.add_revoked() = ToMessage(lease);
  }
  for (const LeaseKey& lease : answer.acknowledged) {
    *message.add_acknowledged() = ToMessage(lease);
  }
  SetDuration(answer.next_call, *message.mutable_next_call());
  return message;
}

}  // namespace slipway::server
