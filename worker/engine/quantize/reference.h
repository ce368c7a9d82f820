// The definition of quantization in plain C++: one value after the other, on the calling thread.
#pragma once

#include <memory>

#include "worker/engine/quantize/quantizer.h"

namespace slipway::engine {

// Holds, for the length of a call, a scale and a zero point of 4 bytes each for each of the band's, and a block or
// strip of rows in FP32.
std::unique_ptr<Quantizer> MakeReferenceQuantizer();

}  // namespace slipway::engine
