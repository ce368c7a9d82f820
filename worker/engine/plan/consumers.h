// Which consumers load a plan's quantized weights. A layout's row says it of models in general; here is what speaks
// against it in this one. Sources: the loaders of vLLM 0.32, SGLang 0.5, TensorRT-LLM 1.x, transformers 5.
#pragma once

#include <cstdint>

#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

// kLoads* of the consumers that do not load the plan's weights, whatever their layouts say.
std::uint8_t KeptFrom(const ExportPlan& plan);

// Adds to the plan's warnings what keeps all consumers from a model of this family.
void WarnOfConsumers(ExportPlan& plan);

}  // namespace slipway::engine
