// The quantizer of this processor.
#pragma once

#include <memory>

#include "worker/engine/quantize/quantizer.h"

namespace slipway::engine {

// SIMD with the best instruction set that there is.
std::unique_ptr<Quantizer> MakeCpuQuantizer();

}  // namespace slipway::engine
