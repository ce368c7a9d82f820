// Whether a plan uses the checkpoint exactly: no element twice, none left out unless it says so.
#pragma once

#include "absl/status/status.h"
#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

// Points 2 and 3 of CheckPlan.
absl::Status CheckSourceCoverage(const ExportPlan& plan);

}  // namespace slipway::engine
