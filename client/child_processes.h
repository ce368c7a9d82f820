// A group of child processes that live and die together.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <sys/types.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace slipway {

// The path of the program `name`: beside the running program, else on PATH. NOT_FOUND naming both places.
absl::StatusOr<std::string> FindProgram(const std::string& name);

struct ChildCommand {
  std::string program;                 // a path
  std::vector<std::string> arguments;  // without the program's name
  std::string log;                     // a file that gets stdout and stderr, appended
};

// Processes of one process group of their own, so that the terminal's Ctrl-C reaches only the parent. Start and Stop
// from the thread that owns it.
class ChildProcesses {
 public:
  // `ended` is called in a thread of its own, once for each child that ends before Stop, with its process id and what
  // happened ("exited with status 3", "was killed by signal 9").
  using Ended = std::function<void(pid_t, const std::string&)>;

  ChildProcesses() = default;
  ~ChildProcesses() { Stop(); }
  ChildProcesses(const ChildProcesses&) = delete;
  ChildProcesses& operator=(const ChildProcesses&) = delete;

  // Starts a child and returns its process id; the first leads the group. Thread-safe.
  absl::StatusOr<pid_t> Start(const ChildCommand& command);
  // Begins to report children that end. Once, after the first Start.
  void Monitor(Ended ended);
  // Kills all children and waits until they are gone. Idempotent.
  void Stop();
  // Sends a signal to all children.
  void Signal(int signal_number);

 private:
  void Reap(const Ended& ended);

  std::mutex mutex_;
  pid_t group_ = 0;  // 0: none yet
  bool stopping_ = false;
  std::thread monitor_;
};

}  // namespace slipway
