// Where a finished plan's files lie, and whose weights are in them.
#pragma once

#include "absl/status/status.h"
#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

// Proves that no file is written twice, that no tensor's name is there twice in one directory (in one file, where it is
// a rank's), that whatever lies in one of several targets' directories says so in its path, and that each directory is
// made of its own weights. INTERNAL, TENSOR_DUPLICATED.
absl::Status CheckDirectories(const ExportPlan& plan);

}  // namespace slipway::engine
