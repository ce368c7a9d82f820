// Quantized weights in a sharded state: the parameters as vLLM makes them for a compressed-tensors model, before it
// packs them for its kernels. It loads a sharded state into just these and packs them afterwards.
#pragma once

#include "worker/engine/target/rank_quantization.h"

namespace slipway::engine {

extern const RankQuantization kVllmShardedQuantization;

}  // namespace slipway::engine
