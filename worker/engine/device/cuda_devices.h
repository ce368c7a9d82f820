// The GPUs of the CUDA runtime; none where the program was built without it (SLIPWAY_HAVE_CUDA).
#pragma once

#include <cstdint>
#include <vector>

#include "worker/engine/device/device.h"

namespace slipway::engine {

std::vector<Device> CudaDevices();

// Bytes of a device's memory that nobody uses now; 0 where there is no such device.
std::int64_t FreeCudaMemory(int device);

}  // namespace slipway::engine
