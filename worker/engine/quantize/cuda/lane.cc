#ifdef SLIPWAY_HAVE_CUDA

#include "worker/engine/quantize/cuda/lane.h"

#include <cstring>
#include <utility>

#include "common/error.h"

namespace slipway::engine {

absl::StatusOr<Lane> Lane::Create(std::int64_t size) {
  Lane lane;
  SLIPWAY_ASSIGN_OR_RETURN(lane.stream, Stream::Create());
  SLIPWAY_ASSIGN_OR_RETURN(lane.device, DeviceMemory::Allocate(size));
  SLIPWAY_ASSIGN_OR_RETURN(lane.host, PinnedMemory::Allocate(size));
  return lane;
}

absl::Status Lane::Upload(std::span<const std::byte> source, std::int64_t offset) {
  if (source.empty()) {
    return absl::OkStatus();
  }
  const std::byte* from = source.data();
  if (!IsPinned(source)) {
    std::byte* staged = host.bytes().data() + offset;
    std::memcpy(staged, source.data(), source.size());
    from = staged;
  }
  return CudaStatus(cudaMemcpyAsync(device.data() + offset, from, source.size(), cudaMemcpyHostToDevice, stream.get()),
                    "copying to the GPU");
}

absl::Status Lane::Download(std::int64_t offset, std::span<std::byte> target) {
  if (target.empty()) {
    return absl::OkStatus();
  }
  std::byte* to = IsPinned(target) ? target.data() : host.bytes().data() + offset;
  return CudaStatus(cudaMemcpyAsync(to, device.data() + offset, target.size(), cudaMemcpyDeviceToHost, stream.get()),
                    "copying from the GPU");
}

void Lane::Collect(std::int64_t offset, std::span<std::byte> target) const {
  if (!target.empty() && !IsPinned(target)) {
    std::memcpy(target.data(), host.bytes().data() + offset, target.size());
  }
}

void LanePool::Add(Lane lane) {
  const std::lock_guard lock(mutex_);
  free_.push_back(std::make_unique<Lane>(std::move(lane)));
}

void LanePool::Clear() {
  const std::lock_guard lock(mutex_);
  free_.clear();
}

LanePool::Loan LanePool::Take() {
  std::unique_lock lock(mutex_);
  freed_.wait(lock, [this] { return !free_.empty(); });
  std::unique_ptr<Lane> lane = std::move(free_.back());
  free_.pop_back();
  return Loan(*this, std::move(lane));
}

LanePool::Loan::~Loan() {
  {
    const std::lock_guard lock(pool_.mutex_);
    pool_.free_.push_back(std::move(lane_));
  }
  pool_.freed_.notify_one();
}

}  // namespace slipway::engine

#endif
