// Groups of options that several commands share, and what they mean to the service and to the engine.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "absl/status/statusor.h"
#include "client/channel.h"
#include "client/console.h"
#include "common/reason.h"
#include "slipway/v1/export.pb.h"
#include "worker/engine/plan/export_plan.h"

namespace slipway {

// What parsing leaves behind: the command to run and how it writes.
struct CommandLine {
  std::function<ExitStatus(const Console&)> action;
  bool json = false;
  bool quiet = false;
};

// What to export: ExportSpec as it is spelled on the command line.
struct ExportFlags {
  std::string checkpoint;
  std::vector<std::string> targets;
  std::string quantization;
  std::string recipe;  // the text of the file
  std::string kv_cache;
  std::string config_form;
  std::string scale_search;
  std::string ranges;
  std::int32_t tensor_parallel = 1;
  std::int32_t pipeline_parallel = 1;
  std::int32_t expert_parallel = 1;
  std::string tensorrt_llm_version;
  std::string hf_config;
  std::string architecture;
  std::optional<std::int64_t> iteration;
  std::string dtype;
  std::string digest = "sha256";
  std::string max_shard_size;
  std::string publish;
  bool overwrite = false;
  bool allow_custom_code = false;
  std::string adapter;
  bool adapter_only = false;
  int priority = 0;
  // Options that this version knows but cannot do yet, as they were given.
  std::vector<std::string> not_yet;
};

// Resources of local mode, and of each worker in it.
struct ResourceFlags {
  int workers = 1;
  int threads = 0;
  std::string memory_budget;
  std::string gpu_memory_budget;
  std::string device;
};

// Each adds its options to `command`; the flags outlive the parsing.
void AddConsoleOptions(CLI::App& command, CommandLine& line);
void AddServerOptions(CLI::App& command, ServerOptions& options);
void AddCheckpointArgument(CLI::App& command, std::string& checkpoint);
void AddIterationOption(CLI::App& command, std::optional<std::int64_t>& iteration);
void AddExportOptions(CLI::App& command, ExportFlags& flags);
void AddResourceOptions(CLI::App& command, ResourceFlags& flags);
// The positional NAME of commands on one export.
void AddNameArgument(CLI::App& command, std::string& name);

// OPTION_UNSUPPORTED naming the first option that this version cannot do yet.
absl::Status CheckSupported(const ExportFlags& flags);

// OPTION_UNSUPPORTED where the workers of local mode are to use a GPU that is not there.
absl::Status CheckDevice(const ResourceFlags& flags);

// With local paths made absolute where the workers share this process's working directory.
absl::StatusOr<v1::ExportSpec> ToExportSpec(const ExportFlags& flags, bool local);
absl::StatusOr<engine::ExportOptions> ToExportOptions(const ExportFlags& flags);

}  // namespace slipway
