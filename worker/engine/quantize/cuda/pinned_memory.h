// Host memory that a GPU reads and writes directly. What lies in it is copied to and from the device without a detour.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "absl/status/statusor.h"

namespace slipway::engine {

// Owns its memory. Movable, used like a buffer of one owner. Where the program was built without CUDA, Allocate fails.
class PinnedMemory {
 public:
  PinnedMemory() = default;
  PinnedMemory(PinnedMemory&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  PinnedMemory& operator=(PinnedMemory&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;
  ~PinnedMemory();

  // `size` bytes, not zeroed, aligned to 256, for every device of the process. DEVICE_FAILED if there are none. Takes
  // about 0.2 ms a MiB: keep it.
  static absl::StatusOr<PinnedMemory> Allocate(std::int64_t size);

  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }

 private:
  std::span<std::byte> bytes_;
};

// Whether all of `bytes` lies in memory that a GPU reaches directly. False for nothing, and without CUDA.
[[nodiscard]] bool IsPinned(std::span<const std::byte> bytes);

}  // namespace slipway::engine
