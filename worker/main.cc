// slipway-worker: takes work from a slipway-server and does it.
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <random>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "common/byte_size.h"
#include "common/count_of.h"
#include "common/error.h"
#include "common/file_system.h"
#include "common/logging.h"
#include "common/parent_process.h"
#include "worker/agent.h"
#include "worker/coordinator_channel.h"
#include "worker/engine_task_runner.h"
#include "worker/options.h"
#include "worker/signals.h"

namespace slipway::worker {
namespace {

std::string MakeIncarnation() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}", random(), random());
}

ExitStatus Work(const WorkerOptions& options) {
  StopSignals signals;
  const auto channel = OpenCoordinatorChannel(options.server);
  EngineTaskRunner runner({.memory_budget = options.memory_budget,
                           .device = options.device,
                           .gpu_memory_budget = options.gpu_memory_budget,
                           .threads = options.threads},
                          PosixFileSystem(options.durability));
  Agent agent({.name = options.name,
               .incarnation = MakeIncarnation(),
               .devices = {"cpu"},
               .slots = options.slots,
               .drain_timeout = options.drain_timeout},
              channel, runner);
  signals.Deliver([&agent] {
    spdlog::info("draining: finishing what runs, taking nothing new");
    agent.Drain();
  });
  spdlog::info("ready: worker {} for {}, {}, {}, memory budget {}", options.name, options.server,
               CountOf(options.slots, "slot"), CountOf(options.threads, "thread"),
               FormatByteSize(options.memory_budget));
  if (!agent.Run()) {
    spdlog::warn("leaving before everything was done or acknowledged; the coordinator will have it redone");
    std::_Exit(static_cast<int>(ExitStatus::kFailed));  // a task may be stuck: nothing that waits for it
  }
  return ExitStatus::kDone;
}

ExitStatus Main(int argc, const char* const* argv) {
  const ParsedOptions parsed = ParseWorkerOptions(argc, argv);
  if (parsed.exit) {
    return *parsed.exit;
  }
  const absl::Status logging =
      SetUpLogging({.program = "slipway-worker",
                    .level = parsed.options.log_level,
                    .format = parsed.options.log_format == "json" ? LogFormat::kJson : LogFormat::kText});
  if (!logging.ok()) {
    std::cerr << "slipway-worker: " << Describe(logging) << '\n';
    return ExitStatus::kUsage;
  }
  if (parsed.options.parent != 0 && !EndWithParent(parsed.options.parent, SIGKILL)) {
    return ExitStatus::kInterrupted;
  }
  return Work(parsed.options);
}

}  // namespace
}  // namespace slipway::worker

int main(int argc, char** argv) { return static_cast<int>(slipway::worker::Main(argc, argv)); }
