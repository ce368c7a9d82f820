// Where one call at a time works: a queue, memory on the device, and the same again in pinned memory on the host.
// Only for sources that are compiled with CUDA.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/quantize/cuda/device_resources.h"
#include "worker/engine/quantize/cuda/pinned_memory.h"

namespace slipway::engine {

struct Lane {
  Stream stream;
  DeviceMemory device;
  PinnedMemory host;

  // Of `size` bytes; on the calling thread's device.
  static absl::StatusOr<Lane> Create(std::int64_t size);

  // Queues the copy of `source` to `offset` of the device, through `host` at the same offset unless it is pinned.
  absl::Status Upload(std::span<const std::byte> source, std::int64_t offset);

  // Queues the copy of the device's bytes at `offset` to `target` if that is pinned, else to `host`; Collect then
  // moves them on, once the stream was waited for.
  absl::Status Download(std::int64_t offset, std::span<std::byte> target);
  void Collect(std::int64_t offset, std::span<std::byte> target) const;
};

// Hands out lanes; a call that finds none free waits. Thread-safe.
class LanePool {
 public:
  void Add(Lane lane);
  void Clear();  // once no loan is out

  // A lane, returned when it goes.
  class Loan {
   public:
    Loan(LanePool& pool, std::unique_ptr<Lane> lane) : pool_(pool), lane_(std::move(lane)) {}
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;
    ~Loan();
    Lane& operator*() const { return *lane_; }
    Lane* operator->() const { return lane_.get(); }

   private:
    LanePool& pool_;
    std::unique_ptr<Lane> lane_;
  };
  [[nodiscard]] Loan Take();

 private:
  std::mutex mutex_;
  std::condition_variable freed_;
  std::vector<std::unique_ptr<Lane>> free_;  // guarded by mutex_
};

}  // namespace slipway::engine
