#include "server/options.h"

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include "common/error.h"

namespace slipway::server {
namespace {

using Setter = std::function<void(const YAML::Node&)>;
using Keys = std::map<std::string, Setter>;

// Calls the setter of each key; a key without one is an error. `where` is the path to the node.
absl::Status Apply(const YAML::Node& node, const Keys& keys, const std::string& where) {
  if (!node.IsMap()) {
    return Error(Reason::kInvalidArgument, fmt::format("configuration: {} must be a map.", where));
  }
  for (const auto& entry : node) {
    const auto key = entry.first.as<std::string>();
    const auto setter = keys.find(key);
    if (setter == keys.end()) {
      return Error(Reason::kInvalidArgument, fmt::format("configuration: {} knows no key '{}'.", where, key));
    }
    try {
      setter->second(entry.second);
    } catch (const YAML::Exception&) {
      return Error(Reason::kInvalidArgument, fmt::format("configuration: {}.{} has an impossible value.", where, key));
    }
  }
  return absl::OkStatus();
}

// Longest duration that makes sense; keeps the arithmetic far from its limits.
constexpr double kMaximumSeconds = 365.0 * 24 * 3600;
constexpr int kMaximumAttempts = 1'000'000;

Setter Seconds(std::chrono::milliseconds& target) {
  return [&target](const YAML::Node& node) {
    const auto seconds = node.as<double>();
    if (!(seconds > 0 && seconds <= kMaximumSeconds)) {
      throw YAML::BadConversion(node.Mark());
    }
    target = std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
  };
}

Setter Count(int& target) {
  return [&target](const YAML::Node& node) {
    const int count = node.as<int>();
    if (count < 1 || count > kMaximumAttempts) {
      throw YAML::BadConversion(node.Mark());
    }
    target = count;
  };
}

template <typename Value>
Setter Take(Value& target) {
  return [&target](const YAML::Node& node) { target = node.as<Value>(); };
}

}  // namespace

absl::Status ApplyConfig(const std::string& yaml, ServerOptions& options) {
  YAML::Node root;
  try {
    root = YAML::Load(yaml);
  } catch (const YAML::Exception& error) {
    return Error(Reason::kInvalidArgument, fmt::format("configuration: {}", error.what()));
  }
  if (root.IsNull()) {
    return absl::OkStatus();
  }
  SchedulerOptions& scheduler = options.coordinator.scheduler;
  absl::Status nested;
  std::string format = "text";
  const Keys log_keys{{"level", Take(options.log.level)}, {"format", Take(format)}};
  const Keys scheduling_keys{{"lease_seconds", Seconds(scheduler.lease)},
                             {"stuck_seconds", Seconds(scheduler.stuck)},
                             {"maximum_faults", Count(scheduler.maximum_faults)},
                             {"maximum_losses", Count(scheduler.maximum_losses)},
                             {"idle_call_seconds", Seconds(options.coordinator.idle_call)}};
  const Keys keys{
      {"publish_roots", Take(options.roots.publish)},
      {"checkpoint_roots", Take(options.roots.checkpoints)},
      {"log", [&](const YAML::Node& node) { nested.Update(Apply(node, log_keys, "log")); }},
      {"scheduling", [&](const YAML::Node& node) { nested.Update(Apply(node, scheduling_keys, "scheduling")); }}};
  SLIPWAY_RETURN_IF_ERROR(Apply(root, keys, "the file"));
  SLIPWAY_RETURN_IF_ERROR(nested);
  if (format != "text" && format != "json") {
    return Error(Reason::kInvalidArgument, "configuration: log.format must be text or json.");
  }
  options.log.format = format == "json" ? LogFormat::kJson : LogFormat::kText;
  return absl::OkStatus();
}

absl::Status CompleteOptions(ServerOptions& options) {
  namespace fs = std::filesystem;
  if (options.roots.artifacts.find("://") != std::string::npos && !options.roots.artifacts.starts_with("file://")) {
    return Error(Reason::kOptionUnsupported, "--artifacts: this version publishes to directories only.");
  }
  if (options.roots.artifacts.starts_with("file://")) {
    options.roots.artifacts.erase(0, std::string_view("file://").size());
  }
  for (std::string* directory : {&options.data, &options.roots.artifacts}) {
    std::error_code error;
    fs::create_directories(*directory, error);
    const fs::path resolved = error ? fs::path() : fs::canonical(*directory, error);
    if (error) {
      return ErrnoError(error.value(), "make directory", *directory, FileRole::kOther);
    }
    *directory = resolved.string();
  }
  options.coordinator.artifact_root = options.roots.artifacts;
  return absl::OkStatus();
}

}  // namespace slipway::server
