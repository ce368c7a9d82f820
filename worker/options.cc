#include "worker/options.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <iostream>
#include <memory>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <CLI/CLI.hpp>

#include "common/byte_size.h"
#include "common/error.h"
#include "worker/engine/device/device.h"
#include "worker/yaml_config.h"

namespace slipway::worker {
namespace {

constexpr int kMaximumThreads = 1024;
constexpr int kMaximumSlots = 64;
constexpr int kMaximumDrainSeconds = 86400;

int HardwareThreads() { return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMaximumThreads); }

std::string DefaultName() {
  std::array<char, 256> host = {};
  // A name that does not fit is cut short, perhaps without the final zero: the last byte stays one.
  static_cast<void>(gethostname(host.data(), host.size() - 1));
  return fmt::format("{}-{}", host.data(), getpid());
}

// Empty if `value` is a size that a budget can be.
std::string CheckBudget(const std::string& value) {
  const auto bytes = ParseByteSize(value);
  if (!bytes.ok()) {
    return std::string(bytes.status().message());
  }
  return *bytes > 0 ? "" : "a memory budget must be more than nothing";
}

// Empty if `value` is a device of this process.
std::string CheckDevice(const std::string& value) {
  if (value == "auto" || value == "cpu") {
    return "";
  }
  std::vector<std::string> usable = {"auto"};
  if (value.starts_with("cuda:")) {  // asking takes a driver's start
    for (const engine::Device& device : engine::UsableDevices()) {
      usable.push_back(device.name);
    }
  } else {
    usable.insert(usable.end(), {"cpu", "cuda:N"});
  }
  return std::ranges::find(usable, value) != usable.end()
             ? ""
             : fmt::format("there is no device '{}' here; there are {}", value, fmt::join(usable, ", "));
}

}  // namespace

ParsedOptions ParseWorkerOptions(int argc, const char* const* argv) {
  ParsedOptions parsed;
  WorkerOptions& options = parsed.options;
  std::string memory_budget = "8GiB";
  std::string gpu_memory_budget;
  int threads = HardwareThreads();
  std::string durability = "disk";
  int slots = 0;
  int drain_seconds = static_cast<int>(options.drain_timeout.count());

  CLI::App app("Exports checkpoints for a slipway-server.", "slipway-worker");
  app.set_version_flag("--version", std::string("slipway-worker ") + SLIPWAY_VERSION);
  app.config_formatter(std::make_shared<YamlConfig>());
  app.set_config("--config", "", "YAML file with these options by their long names; flags win");
  app.allow_config_extras(false);
  app.add_option("--server", options.server, "The coordinator: HOST:PORT or unix:PATH")->required();
  app.add_option("--name", options.name, "Unique in the service (default: host name and process id)");
  app.add_option("--device", options.device, "auto, cpu or cuda:N")->check(CheckDevice)->capture_default_str();
  app.add_option("--memory-budget", memory_budget, "For everything that is held of checkpoints, such as 8GiB")
      ->check(CheckBudget)
      ->capture_default_str();
  app.add_option("--gpu-memory-budget", gpu_memory_budget,
                 "For everything that is held on the GPU (default: half of its free memory)")
      ->check(CheckBudget);
  app.add_option("--threads", threads, "Of the engine")->check(CLI::Range(1, kMaximumThreads))->capture_default_str();
  app.add_option("--slots", slots, "Tasks at once (default: as many as threads)")->check(CLI::Range(1, kMaximumSlots));
  app.add_option("--drain-timeout", drain_seconds, "Seconds for running tasks after SIGTERM")
      ->check(CLI::Range(0, kMaximumDrainSeconds))
      ->capture_default_str();
  app.add_option("--log-level", options.log_level, "debug, info, warning, error or off")->capture_default_str();
  app.add_option("--log-format", options.log_format, "Of the log on stderr")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  app.add_option("--durability", durability, "What finished work outlives: a power cut (disk) or a crash (page-cache)")
      ->check(CLI::IsMember({"disk", "page-cache"}))
      ->capture_default_str();
  app.add_option("--exit-with-parent", options.parent, "Die with process PID, which started this one")
      ->type_name("PID");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    parsed.exit = app.exit(error, std::cout, std::cerr) == 0 ? ExitStatus::kDone : ExitStatus::kUsage;
    return parsed;
  }
  if (options.name.empty()) {
    options.name = DefaultName();
  }
  options.memory_budget = ParseByteSize(memory_budget).value();
  if (!gpu_memory_budget.empty()) {
    options.gpu_memory_budget = ParseByteSize(gpu_memory_budget).value();
  }
  options.durability = durability == "disk" ? Durability::kDurable : Durability::kPageCache;
  options.threads = threads;
  options.slots = slots > 0 ? slots : std::clamp(threads, 1, kMaximumSlots);
  options.drain_timeout = std::chrono::seconds(drain_seconds);
  return parsed;
}

}  // namespace slipway::worker
