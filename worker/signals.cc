#include "worker/signals.h"

#include <pthread.h>

#include <cstdlib>

#include <utility>

#include "common/reason.h"

namespace slipway::worker {
namespace {

// Ends the waiting thread; nobody else sends it.
constexpr int kWakeUp = SIGUSR2;

}  // namespace

StopSignals::StopSignals() {
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGTERM);
  sigaddset(&signals_, SIGINT);
  sigaddset(&signals_, kWakeUp);
  pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
}

StopSignals::~StopSignals() {
  if (thread_.joinable()) {
    pthread_kill(thread_.native_handle(), kWakeUp);
    thread_.join();
  }
}

void StopSignals::Deliver(std::function<void()> stop) {
  thread_ = std::thread([this, stop = std::move(stop)] {
    bool stopping = false;
    int signal = 0;
    while (sigwait(&signals_, &signal) == 0 && signal != kWakeUp) {
      if (std::exchange(stopping, true)) {
        std::_Exit(static_cast<int>(ExitStatus::kInterrupted));
      }
      stop();
    }
  });
}

}  // namespace slipway::worker
