// Local mode: a private slipway-server and its workers, for one command, on a Unix socket in a temporary directory.
// The same programs and the same path as a service that runs for months.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/channel.h"
#include "client/child_processes.h"
#include "client/private_directory.h"

namespace slipway {

struct LocalOptions {
  std::string artifacts;  // the directory that outputs are published in; exists
  int workers = 1;
  int threads = 0;                // of each worker; 0: the worker's default
  std::string memory_budget;      // of each worker, as given; empty: the worker's default
  std::string gpu_memory_budget;  // the same
  std::string device;             // "auto", "cpu", "cuda"; empty: the worker's default
};

// A worker that crashes is replaced so many times before the service counts as broken.
inline constexpr int kMaximumWorkerRestarts = 5;

// Start and destroy from one thread; the rest is thread-safe. Destruction kills the programs and removes the
// directory: whoever needs an export's partial output removed cancels it and waits first.
class LocalService {
 public:
  // Starts the programs, all at once, and returns when the server takes connections. Sweeps what killed commands left.
  static absl::StatusOr<std::unique_ptr<LocalService>> Start(const LocalOptions& options, const std::stop_token& stop);
  ~LocalService();
  LocalService(const LocalService&) = delete;
  LocalService& operator=(const LocalService&) = delete;

  [[nodiscard]] const std::shared_ptr<const Connection>& connection() const { return connection_; }
  // Triggered when the service broke for good.
  [[nodiscard]] std::stop_token broken() const { return broken_.get_token(); }
  // Why it broke, with the last lines of the program's log; OK while it works.
  [[nodiscard]] absl::Status Failure() const;

 private:
  LocalService(PrivateDirectory directory, LocalOptions options);

  absl::Status StartPrograms();
  absl::Status StartWorker(int number);
  absl::Status WaitForSocket(const std::stop_token& stop) const;
  absl::Status OpenChannel();
  void OnProgramEnded(pid_t process, const std::string& how);
  void Break(const absl::Status& failure);
  [[nodiscard]] std::string Path(const std::string& name) const { return directory_.path() + "/" + name; }
  [[nodiscard]] std::string SocketPath() const { return Path("socket"); }

  const PrivateDirectory directory_;
  const LocalOptions options_;
  std::string worker_program_;
  std::shared_ptr<const Connection> connection_;
  std::stop_source broken_;
  mutable std::mutex mutex_;
  absl::Status failure_;          // guarded by mutex_
  pid_t server_ = 0;              // set before the monitor starts
  std::map<pid_t, int> workers_;  // the number in each one's name; of the monitor's thread once that runs
  int restarts_ = 0;              // of the monitor's thread
  ChildProcesses children_;       // last: ends first
};

}  // namespace slipway
