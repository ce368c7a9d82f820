#include "client/child_processes.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>

#include "common/error.h"

namespace slipway {
namespace {

namespace fs = std::filesystem;

// posix_spawn's two objects, released whatever happens.
class SpawnSettings {
 public:
  SpawnSettings() {
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_init(&files);
  }
  ~SpawnSettings() {
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;

  posix_spawnattr_t attributes{};
  posix_spawn_file_actions_t files{};
};

// A process group of its own, signals as a fresh program has them, no input, output into the log.
void Configure(SpawnSettings& settings, pid_t group, const std::string& log) {
  sigset_t none;
  sigemptyset(&none);
  sigset_t all;
  sigfillset(&all);
  posix_spawnattr_setsigmask(&settings.attributes, &none);
  posix_spawnattr_setsigdefault(&settings.attributes, &all);
  posix_spawnattr_setpgroup(&settings.attributes, group);
  posix_spawnattr_setflags(&settings.attributes,
                           POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  posix_spawn_file_actions_addopen(&settings.files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&settings.files, STDOUT_FILENO, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  posix_spawn_file_actions_adddup2(&settings.files, STDOUT_FILENO, STDERR_FILENO);
}

std::string DescribeEnd(int status) {
  return WIFSIGNALED(status) ? fmt::format("was killed by signal {}", WTERMSIG(status))
                             : fmt::format("exited with status {}", WEXITSTATUS(status));
}

}  // namespace

absl::StatusOr<std::string> FindProgram(const std::string& name) {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  const fs::path sibling = self.parent_path() / name;
  if (!error && access(sibling.c_str(), X_OK) == 0) {
    return sibling.string();
  }
  const char* variable = std::getenv("PATH");  // NOLINT(concurrency-mt-unsafe): nothing here sets the environment
  std::string_view rest = variable == nullptr ? "" : variable;
  while (!rest.empty()) {
    const std::string_view directory = rest.substr(0, rest.find(':'));
    rest.remove_prefix(std::min(rest.size(), directory.size() + 1));
    const std::string candidate = fmt::format("{}/{}", directory, name);
    if (!directory.empty() && access(candidate.c_str(), X_OK) == 0) {
      return candidate;
    }
  }
  return Error(Reason::kNotFound, fmt::format("{} is neither beside this program ({}) nor on PATH; local mode needs it",
                                              name, self.parent_path().string()));
}

absl::StatusOr<pid_t> ChildProcesses::Start(const ChildCommand& command) {
  const std::scoped_lock lock(mutex_);
  if (stopping_) {
    return Error(Reason::kCancelled, "interrupted");
  }
  SpawnSettings settings;
  Configure(settings, group_, command.log);
  std::vector<std::string> words{command.program};
  words.insert(words.end(), command.arguments.begin(), command.arguments.end());
  std::vector<char*> pointers;
  pointers.reserve(words.size() + 1);
  for (std::string& word : words) {
    pointers.push_back(word.data());
  }
  pointers.push_back(nullptr);
  pid_t child = 0;
  const int failure =
      posix_spawn(&child, command.program.c_str(), &settings.files, &settings.attributes, pointers.data(), environ);
  if (failure != 0) {
    return ErrnoError(failure, "starting", command.program, FileRole::kOther);
  }
  if (group_ == 0) {
    group_ = child;
  }
  return child;
}

void ChildProcesses::Monitor(Ended ended) {
  monitor_ = std::thread([this, ended = std::move(ended)] { Reap(ended); });
}

void ChildProcesses::Reap(const Ended& ended) {
  while (true) {
    int status = 0;
    const pid_t child = waitpid(-group_, &status, 0);
    if (child < 0 && errno == EINTR) {
      continue;
    }
    bool stopping = false;
    {
      const std::scoped_lock lock(mutex_);
      if (child < 0) {  // ECHILD: all are gone, and the number of the group may be given to others
        group_ = 0;
        return;
      }
      stopping = stopping_;
    }
    if (!stopping) {
      ended(child, DescribeEnd(status));
    }
  }
}

void ChildProcesses::Signal(int signal_number) {
  const std::scoped_lock lock(mutex_);
  if (group_ != 0) {
    kill(-group_, signal_number);
  }
}

void ChildProcesses::Stop() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    if (group_ != 0) {
      kill(-group_, SIGKILL);
    }
  }
  if (monitor_.joinable()) {
    monitor_.join();
  } else if (group_ != 0) {
    while (waitpid(-group_, nullptr, 0) > 0 || errno == EINTR) {
    }
  }
  group_ = 0;
}

}  // namespace slipway
