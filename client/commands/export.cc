// slipway export: run to the end, show progress, leave the artifact in OUTPUT.
#include <chrono>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "client/artifact_download.h"
#include "client/commands/commands.h"
#include "client/commands/interruptible.h"
#include "client/export_client.h"
#include "client/export_summary.h"
#include "client/follow.h"
#include "client/local_service.h"
#include "client/output.h"
#include "client/verify_artifact.h"
#include "common/error.h"

namespace slipway {
namespace {

using SteadyClock = std::chrono::steady_clock;

struct ExportCommand {
  ExportFlags flags;
  ResourceFlags resources;
  ServerOptions server;
  std::string output;
};

double SecondsSince(SteadyClock::time_point begin) {
  return std::chrono::duration<double>(SteadyClock::now() - begin).count();
}

// Creates an export and follows it until it or `stop` ends it; where that was an interrupt, cancels it.
absl::StatusOr<v1::Export> CreateAndFollow(const ExportClient& client, v1::CreateExportRequest request,
                                           const Console& console, const std::stop_token& stop,
                                           const std::stop_token& interrupt) {
  SLIPWAY_ASSIGN_OR_RETURN(const v1::Export created, client.Create(std::move(request), stop));
  absl::StatusOr<v1::Export> finished = Follow(client, created.name(), 0, console, stop);
  if (!finished.ok() && interrupt.stop_requested()) {
    CancelAndWait(client, created.name());
  }
  return finished;
}

absl::StatusOr<v1::CreateExportRequest> MakeRequest(const ExportCommand& command, bool local) {
  v1::CreateExportRequest request;
  SLIPWAY_ASSIGN_OR_RETURN(*request.mutable_spec(), ToExportSpec(command.flags, local));
  request.set_priority(command.flags.priority);
  return request;
}

absl::Status ExportLocally(const ExportCommand& command, const Console& console, const std::stop_token& stop) {
  const auto begin = SteadyClock::now();
  SLIPWAY_RETURN_IF_ERROR(CheckDevice(command.resources));
  if (!command.flags.publish.empty()) {
    return Error(Reason::kInvalidArgument, "--publish needs --server: local mode writes to OUTPUT");
  }
  SLIPWAY_ASSIGN_OR_RETURN(v1::CreateExportRequest request, MakeRequest(command, /*local=*/true));
  SLIPWAY_ASSIGN_OR_RETURN(const OutputPlace place, OutputPlace::Prepare(command.output, command.flags.overwrite));
  request.mutable_spec()->set_publish(place.path());
  SLIPWAY_ASSIGN_OR_RETURN(const auto service,
                           LocalService::Start({.artifacts = place.parent(),
                                                .workers = command.resources.workers,
                                                .threads = command.resources.threads,
                                                .memory_budget = command.resources.memory_budget,
                                                .gpu_memory_budget = command.resources.gpu_memory_budget,
                                                .device = command.resources.device},
                                               stop));
  // Stops on an interrupt, and when the private service breaks.
  std::stop_source ended;
  const std::stop_callback on_interrupt(stop, [&ended] { ended.request_stop(); });
  const std::stop_callback on_broken(service->broken(), [&ended] { ended.request_stop(); });
  const absl::StatusOr<v1::Export> finished =
      CreateAndFollow(ExportClient(service->connection()), std::move(request), console, ended.get_token(), stop);
  if (!finished.ok() && !stop.stop_requested()) {
    SLIPWAY_RETURN_IF_ERROR(service->Failure());
  }
  SLIPWAY_RETURN_IF_ERROR(finished.status());
  PrintExportSummary(*finished, place.path(), SecondsSince(begin), console);
  return absl::OkStatus();
}

absl::Status ExportRemotely(const ExportCommand& command, const Console& console, const std::stop_token& stop) {
  const auto begin = SteadyClock::now();
  SLIPWAY_ASSIGN_OR_RETURN(v1::CreateExportRequest request, MakeRequest(command, /*local=*/false));
  SLIPWAY_ASSIGN_OR_RETURN(const OutputPlace place, OutputPlace::Prepare(command.output, command.flags.overwrite));
  SLIPWAY_ASSIGN_OR_RETURN(const auto connection, Connect(command.server));
  const ExportClient client(connection);
  SLIPWAY_ASSIGN_OR_RETURN(const v1::Export finished, CreateAndFollow(client, std::move(request), console, stop, stop));
  if (!command.flags.publish.empty()) {
    PrintExportSummary(finished, finished.artifact_path(), SecondsSince(begin), console);
    return absl::OkStatus();
  }
  absl::Status downloaded = DownloadWithProgress(
      connection, {.name = finished.name(), .output = place.path(), .overwrite = command.flags.overwrite}, console,
      stop);
  if (!downloaded.ok()) {
    console.err << fmt::format("the export succeeded; `slipway download {} {}` takes the download up again\n",
                               finished.name(), command.output);
    return downloaded;
  }
  SLIPWAY_RETURN_IF_ERROR(VerifyWithProgress(place.path(), console).status());
  PrintExportSummary(finished, place.path(), SecondsSince(begin), console);
  return absl::OkStatus();
}

}  // namespace

void AddExportCommand(CLI::App& app, CommandLine& line) {
  CLI::App& command = *app.add_subcommand("export", "Export a checkpoint and leave the artifact in OUTPUT");
  const auto options = std::make_shared<ExportCommand>();
  AddExportOptions(command, options->flags);
  command.add_option("OUTPUT", options->output, "The directory to make")->required()->type_name("");
  AddResourceOptions(command, options->resources);
  AddServerOptions(command, options->server);
  AddConsoleOptions(command, line);
  command.callback([&line, options] {
    line.action = [options](const Console& console) {
      const auto run = options->server.address.empty() ? ExportLocally : ExportRemotely;
      return RunInterruptibly([&](const std::stop_token& stop) { return run(*options, console, stop); }, console);
    };
  });
}

}  // namespace slipway
