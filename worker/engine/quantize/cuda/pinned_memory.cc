#include "worker/engine/quantize/cuda/pinned_memory.h"

#include "common/error.h"

#ifdef SLIPWAY_HAVE_CUDA

#include <cuda_runtime_api.h>

#include "worker/engine/quantize/cuda/device_resources.h"

namespace slipway::engine {

PinnedMemory::~PinnedMemory() {
  if (!bytes_.empty()) {
    cudaFreeHost(bytes_.data());
  }
}

absl::StatusOr<PinnedMemory> PinnedMemory::Allocate(std::int64_t size) {
  PinnedMemory memory;
  if (size > 0) {
    void* address = nullptr;
    SLIPWAY_RETURN_IF_ERROR(CudaStatus(cudaHostAlloc(&address, static_cast<std::size_t>(size), cudaHostAllocPortable),
                                       "pinning host memory"));
    memory.bytes_ = {static_cast<std::byte*>(address), static_cast<std::size_t>(size)};
  }
  return memory;
}

bool IsPinned(std::span<const std::byte> bytes) {
  if (bytes.empty()) {
    return false;
  }
  for (const std::byte* address : {bytes.data(), bytes.data() + bytes.size() - 1}) {
    cudaPointerAttributes attributes{};
    if (cudaPointerGetAttributes(&attributes, address) != cudaSuccess) {
      cudaGetLastError();  // an address that CUDA does not know is no failure of the call that follows
      return false;
    }
    if (attributes.type != cudaMemoryTypeHost) {
      return false;
    }
  }
  return true;
}

}  // namespace slipway::engine

#else

namespace slipway::engine {

PinnedMemory::~PinnedMemory() = default;

absl::StatusOr<PinnedMemory> PinnedMemory::Allocate(std::int64_t) {
  return Error(Reason::kDeviceFailed, "this program was built without CUDA");
}

bool IsPinned(std::span<const std::byte>) { return false; }

}  // namespace slipway::engine

#endif
