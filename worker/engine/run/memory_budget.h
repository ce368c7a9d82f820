// One budget for everything that a process holds of checkpoints: mapped windows and buffers take from it before they
// exist and give back when they go.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>

namespace slipway::engine {

// Thread-safe.
class MemoryBudget {
 public:
  explicit MemoryBudget(std::int64_t bytes) : total_(bytes), free_(bytes) {}

  // Gives its bytes back when it goes. Movable.
  class Grant {
   public:
    Grant() = default;
    Grant(MemoryBudget* budget, std::int64_t bytes) : budget_(budget), bytes_(bytes) {}
    Grant(Grant&& other) noexcept : budget_(other.budget_), bytes_(other.bytes_) { other.budget_ = nullptr; }
    Grant& operator=(Grant&& other) noexcept;
    ~Grant() { Release(); }
    void Release();

   private:
    MemoryBudget* budget_ = nullptr;
    std::int64_t bytes_ = 0;
  };

  // Waits until `bytes` are free. Callers hold at most one grant each while they wait, so that they cannot wait for
  // each other; `bytes` must not exceed total().
  [[nodiscard]] Grant Acquire(std::int64_t bytes);
  // The same where they are free now.
  [[nodiscard]] std::optional<Grant> TryAcquire(std::int64_t bytes);
  [[nodiscard]] std::int64_t total() const { return total_; }
  [[nodiscard]] std::int64_t peak() const;  // most that was ever granted at once

 private:
  void Return(std::int64_t bytes);

  const std::int64_t total_;
  mutable std::mutex mutex_;
  std::condition_variable freed_;
  std::int64_t free_;      // guarded by mutex_
  std::int64_t peak_ = 0;  // guarded by mutex_
};

}  // namespace slipway::engine
