// slipway download: fetch an artifact. What a broken download left is used again.
#include <chrono>
#include <memory>
#include <string>

#include <fmt/format.h>

#include "client/artifact_download.h"
#include "client/commands/commands.h"
#include "client/commands/interruptible.h"
#include "client/human.h"
#include "client/output.h"
#include "client/verify_artifact.h"
#include "common/error.h"

namespace slipway {
namespace {

struct DownloadCommand {
  std::string name;
  std::string output;
  bool overwrite = false;
  ServerOptions server;
};

absl::Status Download(const DownloadCommand& command, const Console& console, const std::stop_token& stop) {
  SLIPWAY_ASSIGN_OR_RETURN(const OutputPlace place, OutputPlace::Prepare(command.output, command.overwrite));
  SLIPWAY_ASSIGN_OR_RETURN(const auto connection, Connect(command.server));
  SLIPWAY_RETURN_IF_ERROR(DownloadWithProgress(
      connection, {.name = command.name, .output = place.path(), .overwrite = command.overwrite}, console, stop));
  SLIPWAY_ASSIGN_OR_RETURN(const engine::VerifyReport report, VerifyWithProgress(place.path(), console));
  if (console.json) {
    console.PrintJson({{"output", place.path()},
                       {"files", report.files},
                       {"tensors", report.tensors},
                       {"bytes", report.bytes},
                       {"plan_hash", report.plan_hash}});
  } else {
    console.out << fmt::format("{}: {}, {}, {}, verified\n", place.path(), HumanCount(report.files, "file"),
                               HumanCount(report.tensors, "tensor"), HumanBytes(report.bytes));
  }
  return absl::OkStatus();
}

}  // namespace

void AddDownloadCommand(CLI::App& app, CommandLine& line) {
  CLI::App& command = *app.add_subcommand("download", "Fetch an artifact; resumes, verifies digests");
  const auto options = std::make_shared<DownloadCommand>();
  AddNameArgument(command, options->name);
  command.add_option("OUTPUT", options->output, "The directory to make")->required()->type_name("");
  command.add_flag("--overwrite", options->overwrite, "Replace an output that exists");
  AddServerOptions(command, options->server);
  command.get_option("--server")->required();
  AddConsoleOptions(command, line);
  command.callback([&line, options] {
    line.action = [options](const Console& console) {
      return RunInterruptibly([&](const std::stop_token& stop) { return Download(*options, console, stop); }, console);
    };
  });
}

}  // namespace slipway
