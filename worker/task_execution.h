// One task from its assignment to its report.
#pragma once

#include <string>

#include "slipway/v1/worker.pb.h"
#include "worker/task_control.h"
#include "worker/task_runner.h"

namespace slipway::worker {

// Runs the task on the calling thread and returns its final report: lease, progress and exactly one outcome. Whatever
// the runner throws becomes an INTERNAL error. `incarnation` makes the attempt's name unique.
v1::TaskReport ExecuteTask(TaskRunner& runner, const v1::Assignment& assignment, const std::string& incarnation,
                           TaskControl& control);

// "shard 3 of exports/x (epoch 7)", for logs.
std::string DescribeLease(const v1::Lease& lease);

}  // namespace slipway::worker
