#include "worker/signals.h"

#include <pthread.h>
#include <sys/prctl.h>
#include <unistd.h>

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

bool DieWithParent() {
  const pid_t parent = getppid();
  return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent;
}

}  // namespace slipway::worker
