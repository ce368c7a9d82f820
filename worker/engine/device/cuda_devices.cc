#include "worker/engine/device/cuda_devices.h"

#ifdef SLIPWAY_HAVE_CUDA

#include <cuda_runtime_api.h>
#include <fmt/format.h>

namespace slipway::engine {

bool BuiltWithCuda() { return true; }

std::vector<Device> CudaDevices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    return {};
  }
  std::vector<Device> devices;
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, index) == cudaSuccess) {
      devices.push_back({.name = fmt::format("cuda:{}", index),
                         .capability = fmt::format("cuda:sm_{}{}", properties.major, properties.minor),
                         .model = properties.name,
                         .memory_bytes = static_cast<std::int64_t>(properties.totalGlobalMem)});
    }
  }
  return devices;
}

std::int64_t FreeCudaMemory(int device) {
  std::size_t free = 0;
  std::size_t total = 0;
  const bool known = cudaSetDevice(device) == cudaSuccess && cudaMemGetInfo(&free, &total) == cudaSuccess;
  return known ? static_cast<std::int64_t>(free) : 0;
}

}  // namespace slipway::engine

#else

namespace slipway::engine {

bool BuiltWithCuda() { return false; }

std::vector<Device> CudaDevices() { return {}; }

std::int64_t FreeCudaMemory(int) { return 0; }

}  // namespace slipway::engine

#endif
