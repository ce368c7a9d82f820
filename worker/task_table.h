// The tasks of one worker: running in threads of their own, or ended and waiting for the coordinator's
// acknowledgement.
#pragma once

#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <thread>

#include "google/protobuf/repeated_ptr_field.h"
#include "slipway/v1/worker.pb.h"
#include "worker/task_control.h"
#include "worker/task_runner.h"

namespace slipway::worker {

// One thread (the agent's) calls the public functions; the tasks' threads only end here.
class TaskTable {
 public:
  // `runner` outlives the table. `changed` is called from a task's thread whenever a task has ended.
  TaskTable(TaskRunner& runner, int slots, std::string incarnation, std::function<void()> changed);
  // Cancels what runs and waits for it.
  ~TaskTable();
  TaskTable(const TaskTable&) = delete;
  TaskTable& operator=(const TaskTable&) = delete;

  // Starts a task. False where no slot is free. A lease that is here already is left alone: answers may be repeated.
  [[nodiscard]] bool Start(v1::Assignment assignment);
  // Stops a task and drops its result, except a publication: what is published is published, and the coordinator must
  // know. The lease is reported until the task's thread has really ended, so that the coordinator knows when nothing
  // writes any more.
  void Revoke(const v1::Lease& lease);
  // Forgets an ended task.
  void Acknowledge(const v1::Lease& lease);
  // Stops all tasks because the worker is going away; those that this interrupts are reported as WORKER_LOST, which
  // makes the coordinator try them elsewhere.
  void Abandon();

  // Every task's report, running and ended.
  void AddReports(google::protobuf::RepeatedPtrField<v1::TaskReport>& reports);
  [[nodiscard]] int free_slots() const;
  [[nodiscard]] int running() const;
  [[nodiscard]] bool empty();

 private:
  struct Task {
    v1::Assignment assignment;
    TaskControl control;
    bool revoked = false;
    bool abandoned = false;
    bool ended = false;     // guarded by mutex_; set last by the task's thread
    v1::TaskReport report;  // final; the thread's until `ended`
    std::jthread thread;    // joined when the task is erased
  };
  using Tasks = std::list<Task>;

  void RunTask(Task& task);
  [[nodiscard]] bool Ended(const Task& task) const;
  [[nodiscard]] Tasks::iterator Find(const v1::Lease& lease);
  void EraseDropped();

  TaskRunner& runner_;
  const int slots_;
  const std::string incarnation_;
  const std::function<void()> changed_;
  mutable std::mutex mutex_;
  Tasks tasks_;
};

}  // namespace slipway::worker
