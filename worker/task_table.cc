#include "worker/task_table.h"

#include <algorithm>
#include <iterator>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "common/error.h"
#include "common/rpc/rpc_status.h"
#include "worker/task_execution.h"

namespace slipway::worker {
namespace {

// Results that nobody acknowledges while new work keeps coming: a broken coordinator. Take no more.
constexpr std::size_t kMaximumTasks = 1024;

bool SameLease(const v1::Lease& a, const v1::Lease& b) {
  return a.epoch() == b.epoch() && a.kind() == b.kind() && a.shard() == b.shard() && a.export_name() == b.export_name();
}

}  // namespace

TaskTable::TaskTable(TaskRunner& runner, int slots, std::string incarnation, std::function<void()> changed)
    : runner_(runner), slots_(slots), incarnation_(std::move(incarnation)), changed_(std::move(changed)) {}

TaskTable::~TaskTable() {
  for (Task& task : tasks_) {
    task.control.Cancel();
  }
}

bool TaskTable::Start(v1::Assignment assignment) {
  if (Find(assignment.lease()) != tasks_.end()) {
    return true;
  }
  if (free_slots() == 0) {
    return false;
  }
  spdlog::debug("starting {}", DescribeLease(assignment.lease()));
  Task& task = tasks_.emplace_back();
  task.assignment = std::move(assignment);
  try {
    task.thread = std::jthread([this, &task] { RunTask(task); });
  } catch (const std::system_error& error) {
    task.report = v1::TaskReport();
    *task.report.mutable_lease() = task.assignment.lease();
    *task.report.mutable_error() =
        ToErrorDetail(Error(Reason::kInternal, fmt::format("cannot start a thread: {}", error.what())));
    task.ended = true;
    changed_();
  }
  return true;
}

void TaskTable::RunTask(Task& task) {
  v1::TaskReport report = ExecuteTask(runner_, task.assignment, incarnation_, task.control);
  {
    const std::lock_guard lock(mutex_);
    task.report = std::move(report);
    task.ended = true;
  }
  changed_();
}

void TaskTable::Revoke(const v1::Lease& lease) {
  const auto task = Find(lease);
  if (task == tasks_.end()) {
    return;
  }
  if (!task->revoked) {
    spdlog::info("{} was revoked", DescribeLease(lease));
  }
  task->revoked = true;
  task->control.Cancel();
}

void TaskTable::Acknowledge(const v1::Lease& lease) {
  const auto task = Find(lease);
  if (task != tasks_.end() && Ended(*task)) {
    tasks_.erase(task);
  }
}

void TaskTable::Abandon() {
  for (Task& task : tasks_) {
    task.abandoned = task.abandoned || !Ended(task);
    task.control.Cancel();
  }
}

void TaskTable::AddReports(google::protobuf::RepeatedPtrField<v1::TaskReport>& reports) {
  EraseDropped();
  for (const Task& task : tasks_) {
    v1::TaskReport& report = *reports.Add();
    if (!Ended(task)) {
      *report.mutable_lease() = task.assignment.lease();
      report.set_bytes_done(task.control.bytes_done());
      report.set_heartbeat(task.control.heartbeat());
      continue;
    }
    report = task.report;
    if (task.abandoned && report.has_error()) {
      *report.mutable_error() =
          ToErrorDetail(Error(Reason::kWorkerLost, "the worker was stopped before the task had ended"));
    }
  }
}

int TaskTable::free_slots() const { return tasks_.size() >= kMaximumTasks ? 0 : std::max(0, slots_ - running()); }

int TaskTable::running() const {
  return static_cast<int>(std::ranges::count_if(tasks_, [this](const Task& task) { return !Ended(task); }));
}

bool TaskTable::empty() {
  EraseDropped();
  return tasks_.empty();
}

bool TaskTable::Ended(const Task& task) const {
  const std::lock_guard lock(mutex_);
  return task.ended;
}

TaskTable::Tasks::iterator TaskTable::Find(const v1::Lease& lease) {
  return std::ranges::find_if(tasks_, [&lease](const Task& task) { return SameLease(task.assignment.lease(), lease); });
}

void TaskTable::EraseDropped() {
  std::erase_if(tasks_, [this](const Task& task) { return task.revoked && Ended(task) && !task.report.has_publish(); });
}

}  // namespace slipway::worker
