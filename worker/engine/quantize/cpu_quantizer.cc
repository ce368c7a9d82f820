#include "worker/engine/quantize/cpu_quantizer.h"

#include "worker/engine/quantize/reference.h"

namespace slipway::engine {

std::unique_ptr<Quantizer> MakeCpuQuantizer() { return MakeReferenceQuantizer(); }

}  // namespace slipway::engine
