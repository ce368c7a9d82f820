#include "client/interrupts.h"

#include <array>
#include <csignal>
#include <cstdint>

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/reason.h"

namespace slipway {
namespace {

sigset_t InterruptSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGHUP);
  return signals;
}

}  // namespace

Interrupts::Interrupts() {
  const sigset_t signals = InterruptSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal_descriptor_ = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
  end_descriptor_ = eventfd(0, EFD_CLOEXEC);
  listener_ = std::thread([this] { Listen(); });
}

Interrupts::~Interrupts() {
  const std::uint64_t one = 1;
  (void)!write(end_descriptor_, &one, sizeof(one));
  listener_.join();
  close(signal_descriptor_);
  close(end_descriptor_);
  const sigset_t signals = InterruptSignals();
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
}

void Interrupts::Listen() {
  std::array<pollfd, 2> waits{pollfd{signal_descriptor_, POLLIN, 0}, pollfd{end_descriptor_, POLLIN, 0}};
  while (true) {
    if (poll(waits.data(), waits.size(), -1) < 0) {
      continue;  // EINTR
    }
    signalfd_siginfo info{};
    if (read(signal_descriptor_, &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
      if (!source_.request_stop()) {  // the second one
        _exit(static_cast<int>(ExitStatus::kInterrupted));
      }
      continue;
    }
    if (waits[1].revents != 0) {
      return;
    }
  }
}

}  // namespace slipway
