// What this process can compute on. Today that is only told to the coordinator; kernels come with quantization.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace slipway::engine {

struct Device {
  std::string name;               // "cpu", "cuda:0"
  std::string capability;         // "cpu", "cuda:sm_90"
  std::string model;              // "NVIDIA H200", or empty
  std::int64_t memory_bytes = 0;  // of its own; 0 for the CPU, which has the memory budget
};

// The CPU, then the GPUs that the CUDA runtime finds, in its order. Without CUDA, or where the driver is missing or
// broken, just the CPU. Thread-safe; may take a second the first time, as the driver starts.
std::vector<Device> UsableDevices();

// Whether this program was built with CUDA.
bool BuiltWithCuda();

}  // namespace slipway::engine
