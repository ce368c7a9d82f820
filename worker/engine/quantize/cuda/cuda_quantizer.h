// Quantization on an NVIDIA GPU: the same bytes as the reference.
//
// A call takes a lane (a stream, memory on the device, pinned memory on the host), copies its values there, runs the
// kernels, copies the results back and sleeps meanwhile. Calls of several threads therefore overlap: one computes while
// others copy. A band larger than a lane is done in pieces of whole blocks. Values and outputs that lie in pinned
// memory (PinnedMemory) are copied without a detour through the lane's.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "worker/engine/quantize/quantizer.h"

namespace slipway::engine {

inline constexpr std::int64_t kCudaLanes = 4;                               // at most
inline constexpr std::int64_t kLargestCudaLane = std::int64_t{64} << 20;    // bytes
inline constexpr std::int64_t kSmallestCudaBudget = std::int64_t{4} << 20;  // less is MEMORY_BUDGET_TOO_SMALL

// What a quantizer made with `memory_budget` takes on the device, and as much again of pinned host memory. CUDA's own
// context (some hundred MiB of the device) is not in it.
[[nodiscard]] std::int64_t CudaQuantizerBytes(std::int64_t memory_budget);

// A quantizer on the CUDA runtime's `device`; null where the program was built without CUDA. DEVICE_FAILED where there
// is no such device or too little memory is free. Its calls fail with DEVICE_FAILED, and with MEMORY_BUDGET_TOO_SMALL
// where one row of blocks does not fit a lane.
absl::StatusOr<std::unique_ptr<Quantizer>> MakeCudaQuantizer(int device, std::int64_t memory_budget);

}  // namespace slipway::engine
