// What slipway-worker is told: flags, over the YAML file of --config, over defaults.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include <sys/types.h>

#include "common/file_system.h"
#include "common/reason.h"

namespace slipway::worker {

struct WorkerOptions {
  std::string server;  // HOST:PORT or unix:PATH
  std::string name;    // unique in the service; default: host name and process id
  std::string device = "auto";
  std::int64_t memory_budget = 0;  // bytes
  // Bytes; absent: half of what is free on the device when it is first used, which nobody waits for at the start.
  std::optional<std::int64_t> gpu_memory_budget;
  int threads = 1;  // of the engine
  int slots = 1;    // tasks at once
  std::chrono::seconds drain_timeout{60};
  std::string log_level = "info";
  std::string log_format = "text";
  Durability durability = Durability::kDurable;
  pid_t parent = 0;  // dies with this process; 0: with none
};

struct ParsedOptions {
  WorkerOptions options;
  std::optional<ExitStatus> exit;  // set: leave with it; help, version or what is wrong has been printed
};

ParsedOptions ParseWorkerOptions(int argc, const char* const* argv);

}  // namespace slipway::worker
