// Quantizer's other functions by vector instructions. Thread-safe; what is required is as there. False, with nothing
// done, where there is no vector code (simd.h).
#pragma once

#include <span>

#include "worker/engine/quantize/quantizer.h"

namespace slipway::engine {

bool QuantizeSimd(const QuantizeJob& job);

bool SquaredErrorsSimd(const Coding& coding, const Values& values, std::span<const float> scales,
                       std::span<double> errors);

}  // namespace slipway::engine
