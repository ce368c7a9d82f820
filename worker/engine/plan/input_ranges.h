// The range of inputs of each quantized weight whose layout stores a scale of them.
#pragma once

#include "absl/status/status.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/quantize/ranges.h"
#include "worker/engine/quantize/recipe.h"

namespace slipway::engine {

// Sets QuantizedWeight::input_amax where the layout's activations are static: the largest of the module's channels,
// smoothed where there is a pre_quant_scale, and of its fused siblings where the format shares scales. An expert that
// no calibration sample reached gets the largest of its layer's other experts, and `plan.warnings` says how many did;
// what else has no range gets the recipe's default, and is named, too. OPTION_UNSUPPORTED, naming the module, for one
// that has none of it; TENSOR_SHAPE_MISMATCH for a range of another number of channels.
absl::Status InputRanges(const Recipe& recipe, const Ranges* ranges, ExportPlan& plan);

}  // namespace slipway::engine
