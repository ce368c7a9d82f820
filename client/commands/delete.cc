// slipway delete: forget an export that has ended, and its artifact.
#include <memory>
#include <string>

#include "client/commands/commands.h"
#include "client/exit.h"
#include "client/export_client.h"
#include "common/error.h"

namespace slipway {
namespace {

struct DeleteCommand {
  std::string name;
  bool keep_artifact = false;
  ServerOptions server;
};

absl::Status Delete(const DeleteCommand& command, const Console& console) {
  SLIPWAY_ASSIGN_OR_RETURN(const auto connection, Connect(command.server));
  SLIPWAY_RETURN_IF_ERROR(ExportClient(connection).Delete(command.name, command.keep_artifact));
  if (console.json) {
    console.PrintJson({{"deleted", ExportName(command.name)}});
  }
  return absl::OkStatus();
}

}  // namespace

void AddDeleteCommand(CLI::App& app, CommandLine& line) {
  CLI::App& command = *app.add_subcommand("delete", "Forget an export that has ended, and remove its artifact");
  const auto options = std::make_shared<DeleteCommand>();
  AddNameArgument(command, options->name);
  command.add_flag("--keep-artifact", options->keep_artifact, "Leave the published artifact where it is");
  AddServerOptions(command, options->server);
  command.get_option("--server")->required();
  AddConsoleOptions(command, line);
  command.callback([&line, options] {
    line.action = [options](const Console& console) { return Finish(Delete(*options, console), console); };
  });
}

}  // namespace slipway
