#include "client/local_service.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <thread>
#include <utility>
#include <vector>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <fmt/format.h>

#include "common/error.h"

namespace slipway {
namespace {

constexpr auto kSocketPollInterval = std::chrono::milliseconds(1);
constexpr auto kStartTimeout = std::chrono::seconds(20);
constexpr std::size_t kLogTailBytes = 2000;

bool TakesConnections(const std::string& socket_path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socket_path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (probe < 0) {
    return false;
  }
  const bool connected = connect(probe, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  close(probe);
  return connected;
}

// The end of a log, from the beginning of a line.
std::string TailOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const auto size = static_cast<std::int64_t>(file.tellg());
  if (size <= 0) {
    return "(its log is empty)";
  }
  const std::int64_t length = std::min<std::int64_t>(size, kLogTailBytes);
  std::string text(static_cast<std::size_t>(length), '\0');
  file.seekg(size - length);
  file.read(text.data(), length);
  if (length < size) {
    text.erase(0, text.find('\n') + 1);
  }
  text.erase(text.find_last_not_of('\n') + 1);
  return text;
}

}  // namespace

LocalService::LocalService(PrivateDirectory directory, LocalOptions options)
    : directory_(std::move(directory)), options_(std::move(options)) {}

LocalService::~LocalService() { children_.Stop(); }

absl::StatusOr<std::unique_ptr<LocalService>> LocalService::Start(const LocalOptions& options,
                                                                  const std::stop_token& stop) {
  const std::string base = TemporaryBase();
  SweepPrivateDirectories(base);
  SLIPWAY_ASSIGN_OR_RETURN(PrivateDirectory directory, PrivateDirectory::Make(base));
  std::unique_ptr<LocalService> service(new LocalService(std::move(directory), options));
  SLIPWAY_RETURN_IF_ERROR(service->StartPrograms());
  SLIPWAY_RETURN_IF_ERROR(service->WaitForSocket(stop));
  SLIPWAY_RETURN_IF_ERROR(service->OpenChannel());
  return service;
}

absl::Status LocalService::StartPrograms() {
  SLIPWAY_ASSIGN_OR_RETURN(const std::string server, FindProgram("slipway-server"));
  SLIPWAY_ASSIGN_OR_RETURN(worker_program_, FindProgram("slipway-worker"));
  SLIPWAY_ASSIGN_OR_RETURN(
      server_, children_.Start({.program = server,
                                .arguments = {"--listen", "unix:" + SocketPath(), "--data", Path("data"), "--artifacts",
                                              options_.artifacts, "--exit-with-parent", std::to_string(getpid())},
                                .log = Path("server.log")}));
  for (int number = 1; number <= options_.workers; ++number) {
    SLIPWAY_RETURN_IF_ERROR(StartWorker(number));
  }
  children_.Monitor([this](pid_t process, const std::string& how) { OnProgramEnded(process, how); });
  return absl::OkStatus();
}

absl::Status LocalService::StartWorker(int number) {
  std::vector<std::string> arguments{"--server", "unix:" + SocketPath(), "--name", fmt::format("local-{}", number),
                                     "--exit-with-parent", std::to_string(getpid()),
                                     // As cp leaves its copy: nobody else relies on what this command acknowledges.
                                     "--durability", "page-cache"};
  const auto pass_on = [&arguments](const std::string& option, const std::string& value) {
    if (!value.empty()) {
      arguments.insert(arguments.end(), {option, value});
    }
  };
  pass_on("--memory-budget", options_.memory_budget);
  pass_on("--gpu-memory-budget", options_.gpu_memory_budget);
  pass_on("--threads", options_.threads > 0 ? std::to_string(options_.threads) : "");
  pass_on("--device", options_.device == "cuda" ? "cuda:0" : options_.device);
  SLIPWAY_ASSIGN_OR_RETURN(
      const pid_t process,
      children_.Start({.program = worker_program_, .arguments = arguments, .log = Path("worker.log")}));
  workers_[process] = number;
  return absl::OkStatus();
}

absl::Status LocalService::WaitForSocket(const std::stop_token& stop) const {
  const auto deadline = std::chrono::steady_clock::now() + kStartTimeout;
  while (!TakesConnections(SocketPath())) {
    if (stop.stop_requested()) {
      return Error(Reason::kCancelled, "interrupted");
    }
    if (broken_.stop_requested()) {
      return Failure();
    }
    if (std::chrono::steady_clock::now() > deadline) {
      return Error(Reason::kServerUnreachable, fmt::format("the private server did not start within {} s:\n{}",
                                                           kStartTimeout.count(), TailOf(Path("server.log"))));
    }
    std::this_thread::sleep_for(kSocketPollInterval);
  }
  return absl::OkStatus();
}

absl::Status LocalService::OpenChannel() {
  SLIPWAY_ASSIGN_OR_RETURN(connection_, Connect({.address = "unix:" + SocketPath()}));
  return absl::OkStatus();
}

void LocalService::OnProgramEnded(pid_t process, const std::string& how) {
  if (process == server_) {
    Break(Error(Reason::kInternal,
                fmt::format("the private server {}; its last words:\n{}", how, TailOf(Path("server.log")))));
    return;
  }
  const absl::Status failure =
      Error(Reason::kWorkerLost, fmt::format("a worker {}; its last words:\n{}", how, TailOf(Path("worker.log"))));
  if (++restarts_ > kMaximumWorkerRestarts) {
    Break(failure);
    return;
  }
  // Under its old name: the server then knows at once that what the dead one did must be done again.
  const int number = workers_[process];
  workers_.erase(process);
  if (!StartWorker(number).ok()) {
    Break(failure);
  }
}

void LocalService::Break(const absl::Status& failure) {
  {
    const std::scoped_lock lock(mutex_);
    if (!failure_.ok()) {
      return;
    }
    failure_ = failure;
  }
  broken_.request_stop();
}

absl::Status LocalService::Failure() const {
  const std::scoped_lock lock(mutex_);
  return failure_;
}

}  // namespace slipway
