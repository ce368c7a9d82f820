// Which quantized weights share a scale of whole tensors.
#pragma once

#include "worker/engine/plan/export_plan.h"
#include "worker/engine/plan/input_scales.h"
#include "worker/engine/quantize/ranges.h"

namespace slipway::engine {

// Groups the plan's quantized weights that have such a scale: fused siblings where the format or the engines want one
// for all. A group's amax is the largest of those that `ranges` (or null) gives, if it gives all and scales of
// inputs were not multiplied back into the weights.
void MakeScaleGroups(const Ranges* ranges, const AbsorbedScales& absorbed, ExportPlan& plan);

}  // namespace slipway::engine
