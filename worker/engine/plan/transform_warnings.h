// What a plan says of tensors that are not exported bit by bit.
#pragma once

#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

// Adds to the plan's warnings what happens to values of its tensors, which must be those that are written, unquantized.
void WarnOfTransforms(ExportPlan& plan);

}  // namespace slipway::engine
