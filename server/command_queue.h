// The way into the coordinator's thread: a bounded queue of commands.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "common/error.h"

namespace slipway::server {

// Exactly one of the two is called, once.
struct Command {
  std::function<void()> run;                            // on the coordinator's thread
  std::function<void(const absl::Status& why)> refuse;  // on any thread, also the poster's
};

// Thread-safe.
class CommandQueue {
 public:
  explicit CommandQueue(std::size_t capacity) : capacity_(capacity) {}

  // Refuses the command at once where the queue is full (SERVER_OVERLOADED) or closed (SERVER_UNREACHABLE).
  void Post(Command command) {
    absl::Status refusal;
    {
      const std::lock_guard lock(mutex_);
      refusal = WhyFull();
      if (refusal.ok()) {
        commands_.push_back(std::move(command));
        filled_.notify_one();
        return;
      }
    }
    command.refuse(refusal);
  }

  // For what must not be lost, such as a finished clean-up: ignores the capacity. Dropped where the queue is closed.
  void PostAlways(std::function<void()> run) {
    {
      const std::lock_guard lock(mutex_);
      if (closed_) {
        return;
      }
      commands_.push_back({std::move(run), [](const absl::Status&) {}});
    }
    filled_.notify_one();
  }

  // Everything that waits; waits for at most `timeout` for something to come.
  std::vector<Command> Take(std::chrono::milliseconds timeout) {
    std::unique_lock lock(mutex_);
    filled_.wait_for(lock, timeout, [this] { return !commands_.empty() || closed_; });
    return std::exchange(commands_, {});
  }

  void Close() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    filled_.notify_one();
  }

  [[nodiscard]] bool closed() {
    const std::lock_guard lock(mutex_);
    return closed_ && commands_.empty();
  }

 private:
  // Why nothing more is taken, or OK. Holds mutex_.
  [[nodiscard]] absl::Status WhyFull() const {
    if (closed_) {
      return Error(Reason::kServerUnreachable, "The server is shutting down; call again.");
    }
    return commands_.size() < capacity_
               ? absl::OkStatus()
               : Error(Reason::kServerOverloaded, "The server has too much to do; call again in a second.");
  }

  const std::size_t capacity_;
  std::mutex mutex_;
  std::condition_variable filled_;
  std::vector<Command> commands_;  // guarded by mutex_
  bool closed_ = false;            // guarded by mutex_
};

}  // namespace slipway::server
