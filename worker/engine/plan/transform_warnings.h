// What a plan says of tensors that are not exported bit by bit.
#pragma once

#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

// Adds to the plan's warnings what happens to the values of its tensors, before any is quantized: the values of one
// that will be are converted, too.
void WarnOfTransforms(ExportPlan& plan);

}  // namespace slipway::engine
