// Time as a seam: schedulers and watchdogs take a Clock so that tests can move it.
#pragma once

#include <chrono>

namespace slipway {

// Thread-safe.
class Clock {
 public:
  using Monotonic = std::chrono::steady_clock::time_point;
  using Wall = std::chrono::system_clock::time_point;

  virtual ~Clock() = default;
  // For durations, leases and time-outs: never jumps.
  [[nodiscard]] virtual Monotonic Now() const = 0;
  // For people: may jump.
  [[nodiscard]] virtual Wall WallNow() const = 0;
};

// The computer's clocks. Static storage.
const Clock& SystemClock();

}  // namespace slipway
