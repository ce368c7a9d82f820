// slipway submit: hand an export to a service, print its name and return.
#include <memory>

#include <fmt/format.h>

#include "client/commands/commands.h"
#include "client/exit.h"
#include "client/export_client.h"
#include "client/message_json.h"
#include "common/error.h"

namespace slipway {
namespace {

struct SubmitCommand {
  ExportFlags flags;
  ResourceFlags ignored;  // a service has its own
  ServerOptions server;
};

absl::Status Submit(const SubmitCommand& command, const Console& console) {
  v1::CreateExportRequest request;
  SLIPWAY_ASSIGN_OR_RETURN(*request.mutable_spec(), ToExportSpec(command.flags, /*local=*/false));
  request.set_priority(command.flags.priority);
  SLIPWAY_ASSIGN_OR_RETURN(const auto connection, Connect(command.server));
  SLIPWAY_ASSIGN_OR_RETURN(const v1::Export created, ExportClient(connection).Create(request));
  if (console.json) {
    console.PrintJson({{"export", MessageToJson(created)}});
  } else {
    console.out << created.name() << '\n';
  }
  return absl::OkStatus();
}

}  // namespace

void AddSubmitCommand(CLI::App& app, CommandLine& line) {
  CLI::App& command = *app.add_subcommand("submit", "Hand an export to a service and print its name");
  const auto options = std::make_shared<SubmitCommand>();
  AddExportOptions(command, options->flags);
  AddResourceOptions(command, options->ignored);
  AddServerOptions(command, options->server);
  command.get_option("--server")->required();
  AddConsoleOptions(command, line);
  command.callback([&line, options] {
    line.action = [options](const Console& console) { return Finish(Submit(*options, console), console); };
  });
}

}  // namespace slipway
