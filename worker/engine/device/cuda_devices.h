// The GPUs of the CUDA runtime; none where the program was built without it (SLIPWAY_HAVE_CUDA).
#pragma once

#include <vector>

#include "worker/engine/device/device.h"

namespace slipway::engine {

std::vector<Device> CudaDevices();

}  // namespace slipway::engine
