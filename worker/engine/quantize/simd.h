// Quantization by vector instructions of the processor at hand: of SSSE3, SSE4, AVX2 and AVX-512 the best.
//
// Vector code: Measure; every element, packing and kind of output of kTensor, kRow, kGroup and kSquare whose group is a
// multiple of 16 and, for kGroup, whose least common multiple with 128 is at most 1024; the search for scales;
// SquaredErrors. Any other group goes to the reference.
#pragma once

#include <memory>

#include "worker/engine/quantize/quantizer.h"

namespace slipway::engine {

// Its name is that of the instruction set, "AVX3" for AVX-512. Never null: without any of the sets it is slow.
std::unique_ptr<Quantizer> MakeSimdQuantizer();

}  // namespace slipway::engine
