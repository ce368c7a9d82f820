// What the CUDA runtime hands out, owned. Only for sources that are compiled with CUDA (SLIPWAY_HAVE_CUDA).
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace slipway::engine {

// OK, or DEVICE_FAILED naming what was tried and CUDA's own words.
[[nodiscard]] absl::Status CudaStatus(cudaError_t error, std::string_view action);

// Makes `device` the calling thread's while it lives; then the one before is it again.
class DeviceScope {
 public:
  explicit DeviceScope(int device);
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;
  ~DeviceScope();
  [[nodiscard]] absl::Status status() const { return CudaStatus(error_, "choosing the GPU"); }

 private:
  int previous_ = 0;
  cudaError_t error_;
};

// Memory of the device that was current when it was allocated. The address is a multiple of 256.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(DeviceMemory&& other) noexcept : address_(std::exchange(other.address_, nullptr)) {}
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    std::swap(address_, other.address_);
    return *this;
  }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  ~DeviceMemory() { cudaFree(address_); }
  static absl::StatusOr<DeviceMemory> Allocate(std::int64_t size);
  [[nodiscard]] std::byte* data() const { return static_cast<std::byte*>(address_); }

 private:
  void* address_ = nullptr;
};

// A queue of work, and the event by which a thread sleeps until all of it is done.
class Stream {
 public:
  Stream() = default;
  Stream(Stream&& other) noexcept
      : stream_(std::exchange(other.stream_, nullptr)), done_(std::exchange(other.done_, nullptr)) {}
  Stream& operator=(Stream&& other) noexcept {
    std::swap(stream_, other.stream_);
    std::swap(done_, other.done_);
    return *this;
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream();
  static absl::StatusOr<Stream> Create();
  [[nodiscard]] cudaStream_t get() const { return stream_; }
  absl::Status Wait();

 private:
  cudaStream_t stream_ = nullptr;
  cudaEvent_t done_ = nullptr;
};

}  // namespace slipway::engine
