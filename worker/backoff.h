// How long to wait before trying again: grows from attempt to attempt up to a ceiling, and is spread at random so that
// many workers do not return to a restarted coordinator in step.
#pragma once

#include <chrono>
#include <random>

namespace slipway::worker {

// Not thread-safe.
class Backoff {
 public:
  using Duration = std::chrono::microseconds;

  Backoff(Duration first, Duration ceiling, std::uint64_t seed)
      : first_(first), ceiling_(ceiling), next_(first), random_(seed) {}

  // Between half and all of the current step; the next step is larger.
  Duration Next();
  void Reset() { next_ = first_; }

 private:
  const Duration first_;
  const Duration ceiling_;
  Duration next_;
  std::mt19937_64 random_;
};

}  // namespace slipway::worker
