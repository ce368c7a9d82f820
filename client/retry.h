// Patience with a server that restarts: exponential back-off that a stop request interrupts.
#pragma once

#include <chrono>
#include <functional>
#include <stop_token>

#include "absl/status/status.h"

namespace slipway {

struct RetryPolicy {
  std::chrono::milliseconds first_delay{50};
  std::chrono::milliseconds longest_delay{2'000};
  // Tries in a row without any success before giving up (with the delays above, about two minutes).
  int attempts = 64;
  // Waits, or returns early on a stop request. Tests replace it.
  std::function<void(std::chrono::milliseconds, const std::stop_token&)> wait = {};
};

// Whether trying the same call again may help: the server was away, or had too much to do.
bool IsTransient(const absl::Status& status);

// Counts the failures in a row. Not thread-safe.
class Backoff {
 public:
  explicit Backoff(const RetryPolicy& policy) : policy_(policy) {}

  // Waits before the next try; false where `failure` is not transient, patience is at its end, or a stop was requested.
  [[nodiscard]] bool WaitAfter(const absl::Status& failure, const std::stop_token& stop);
  // A try succeeded: patience is whole again.
  void Reset() { failures_ = 0; }

 private:
  const RetryPolicy& policy_;
  int failures_ = 0;
};

}  // namespace slipway
