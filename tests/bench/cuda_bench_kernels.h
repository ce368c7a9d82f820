// What kernels of quantization are measured against: plain copies and reads of device memory.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace slipway::bench {

// `bytes` is a multiple of 32.
cudaError_t LaunchCopy(const void* from, void* to, std::int64_t bytes, cudaStream_t stream);
cudaError_t LaunchRead(const void* from, std::int64_t bytes, std::uint32_t* sink, cudaStream_t stream);

// BF16 values like N(0, 0.02): sums of four uniform ones.
cudaError_t LaunchFill(void* values, std::int64_t count, std::uint32_t seed, cudaStream_t stream);

}  // namespace slipway::bench
