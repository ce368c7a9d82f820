#include "worker/engine/run/memory_budget.h"

#include <algorithm>
#include <utility>

namespace slipway::engine {

MemoryBudget::Grant& MemoryBudget::Grant::operator=(Grant&& other) noexcept {
  if (this != &other) {
    Release();
    budget_ = std::exchange(other.budget_, nullptr);
    bytes_ = other.bytes_;
  }
  return *this;
}

void MemoryBudget::Grant::Release() {
  if (budget_ != nullptr) {
    std::exchange(budget_, nullptr)->Return(bytes_);
  }
}

MemoryBudget::Grant MemoryBudget::Acquire(std::int64_t bytes) {
  std::unique_lock lock(mutex_);
  freed_.wait(lock, [&] { return free_ >= bytes; });
  free_ -= bytes;
  peak_ = std::max(peak_, total_ - free_);
  return {this, bytes};
}

std::optional<MemoryBudget::Grant> MemoryBudget::TryAcquire(std::int64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (free_ < bytes) {
    return std::nullopt;
  }
  free_ -= bytes;
  peak_ = std::max(peak_, total_ - free_);
  return Grant(this, bytes);
}

std::int64_t MemoryBudget::peak() const {
  const std::lock_guard lock(mutex_);
  return peak_;
}

void MemoryBudget::Return(std::int64_t bytes) {
  {
    const std::lock_guard lock(mutex_);
    free_ += bytes;
  }
  freed_.notify_all();
}

}  // namespace slipway::engine
