// Square blocks that do not fit a model's matrices: legal in the files, but not for every engine.
#pragma once

#include <cstdint>

#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

// Adds to the plan's warnings, naming one each, weights under a scale a block that engines do not run: columns that are
// no whole blocks (inputs are quantized in groups as long as a block is wide), and rows that are none where the engine
// puts a fused sibling below them.
void WarnOfRaggedBlocks(ExportPlan& plan);

// kLoads* of the consumers that do not load the plan's weights for these reasons, whatever their layouts say.
std::uint8_t KeptFromByRaggedBlocks(const ExportPlan& plan);

}  // namespace slipway::engine
