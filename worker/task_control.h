// What the agent and a running task tell each other: how far it is, and whether to stop.
#pragma once

#include <atomic>
#include <cstdint>

namespace slipway::worker {

// Thread-safe and cheap: executors call it once a written segment, from all their threads.
class TaskControl {
 public:
  TaskControl() = default;
  TaskControl(const TaskControl&) = delete;
  TaskControl& operator=(const TaskControl&) = delete;

  // The heartbeat grows here and in EnterPhase() only: a task that hangs must look as if it hung.
  void AddBytes(std::int64_t bytes) {
    bytes_done_.fetch_add(bytes, std::memory_order_relaxed);
    heartbeat_.fetch_add(1, std::memory_order_relaxed);
  }
  void EnterPhase() { heartbeat_.fetch_add(1, std::memory_order_relaxed); }
  [[nodiscard]] std::int64_t bytes_done() const { return bytes_done_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::int64_t heartbeat() const { return heartbeat_.load(std::memory_order_relaxed); }

  // Never taken back.
  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  [[nodiscard]] bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  [[nodiscard]] const std::atomic<bool>& cancel_flag() const { return cancelled_; }

 private:
  std::atomic<std::int64_t> bytes_done_ = 0;
  std::atomic<std::int64_t> heartbeat_ = 0;
  std::atomic<bool> cancelled_ = false;
};

}  // namespace slipway::worker
