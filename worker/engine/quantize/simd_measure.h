// Quantizer::Measure by vector instructions. Thread-safe.
#pragma once

#include "worker/engine/quantize/quantizer.h"

namespace slipway::engine {

Measured MeasureSimd(const Values& values);

}  // namespace slipway::engine
