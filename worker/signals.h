// Signals that stop the process, taken on a thread of their own: handlers may then do anything.
#pragma once

#include <csignal>

#include <functional>
#include <thread>

namespace slipway::worker {

// SIGTERM and SIGINT: the first calls `stop` on a thread of this object's, the second ends the process at once with
// status 130. One a process; make it before any other thread is started, so that all inherit the signals' mask.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // Call once. `stop` must live as long as this object. Signals that came before are delivered now.
  void Deliver(std::function<void()> stop);

 private:
  sigset_t signals_;
  std::thread thread_;
};

}  // namespace slipway::worker
