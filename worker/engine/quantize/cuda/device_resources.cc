#ifdef SLIPWAY_HAVE_CUDA

#include "worker/engine/quantize/cuda/device_resources.h"

#include <fmt/format.h>

#include "common/error.h"

namespace slipway::engine {

absl::Status CudaStatus(cudaError_t error, std::string_view action) {
  if (error == cudaSuccess) {
    return absl::OkStatus();
  }
  cudaGetLastError();  // reported here; not once more by the next call
  return Error(Reason::kDeviceFailed,
               fmt::format("{}: {} ({})", action, cudaGetErrorString(error), cudaGetErrorName(error)));
}

DeviceScope::DeviceScope(int device) {
  error_ = cudaGetDevice(&previous_);
  if (error_ == cudaSuccess && previous_ != device) {
    error_ = cudaSetDevice(device);
  }
}

DeviceScope::~DeviceScope() {
  if (error_ == cudaSuccess) {
    cudaSetDevice(previous_);
  }
}

absl::StatusOr<DeviceMemory> DeviceMemory::Allocate(std::int64_t size) {
  DeviceMemory memory;
  const cudaError_t error = cudaMalloc(&memory.address_, static_cast<std::size_t>(size));
  if (error != cudaSuccess) {
    return CudaStatus(error, fmt::format("allocating {} bytes of GPU memory", size));
  }
  return memory;
}

Stream::~Stream() {
  if (done_ != nullptr) {
    cudaEventDestroy(done_);
  }
  if (stream_ != nullptr) {
    cudaStreamDestroy(stream_);
  }
}

absl::StatusOr<Stream> Stream::Create() {
  Stream stream;
  SLIPWAY_RETURN_IF_ERROR(
      CudaStatus(cudaStreamCreateWithFlags(&stream.stream_, cudaStreamNonBlocking), "creating a stream"));
  SLIPWAY_RETURN_IF_ERROR(CudaStatus(
      cudaEventCreateWithFlags(&stream.done_, cudaEventDisableTiming | cudaEventBlockingSync), "creating an event"));
  return stream;
}

absl::Status Stream::Wait() {
  SLIPWAY_RETURN_IF_ERROR(CudaStatus(cudaEventRecord(done_, stream_), "recording an event"));
  return CudaStatus(cudaEventSynchronize(done_), "waiting for the GPU");
}

}  // namespace slipway::engine

#endif
