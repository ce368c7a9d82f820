#include "worker/engine/quantize/cpu_quantizer.h"

#include "worker/engine/quantize/simd.h"

namespace slipway::engine {

std::unique_ptr<Quantizer> MakeCpuQuantizer() { return MakeSimdQuantizer(); }

}  // namespace slipway::engine
