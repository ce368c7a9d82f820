// SIGINT and SIGTERM as a stop request: the first asks the running command to end cleanly, the second ends the program
// at once.
#pragma once

#include <stop_token>
#include <thread>

namespace slipway {

// Make one at the start of a command, before any other thread: it blocks the signals in this thread and thereby in
// those started later, and takes them in a thread of its own.
class Interrupts {
 public:
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  [[nodiscard]] std::stop_token token() const { return source_.get_token(); }
  [[nodiscard]] bool interrupted() const { return source_.stop_requested(); }

 private:
  void Listen();

  std::stop_source source_;
  int signal_descriptor_ = -1;
  int end_descriptor_ = -1;
  std::thread listener_;
};

}  // namespace slipway
