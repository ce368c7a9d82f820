// slipway cancel: ask an export to stop.
#include <memory>
#include <string>

#include <fmt/format.h>

#include "client/commands/commands.h"
#include "client/exit.h"
#include "client/export_client.h"
#include "client/message_json.h"
#include "common/error.h"

namespace slipway {
namespace {

struct CancelCommand {
  std::string name;
  ServerOptions server;
};

absl::Status Cancel(const CancelCommand& command, const Console& console) {
  SLIPWAY_ASSIGN_OR_RETURN(const auto connection, Connect(command.server));
  SLIPWAY_ASSIGN_OR_RETURN(const v1::Export item, ExportClient(connection).Cancel(command.name));
  if (console.json) {
    console.PrintJson({{"export", MessageToJson(item)}});
  } else {
    console.out << fmt::format("{} {}\n", item.name(), NameOf(item.state()));
  }
  return absl::OkStatus();
}

}  // namespace

void AddCancelCommand(CLI::App& app, CommandLine& line) {
  CLI::App& command = *app.add_subcommand("cancel", "Ask an export to stop; its partial output is removed");
  const auto options = std::make_shared<CancelCommand>();
  AddNameArgument(command, options->name);
  AddServerOptions(command, options->server);
  command.get_option("--server")->required();
  AddConsoleOptions(command, line);
  command.callback([&line, options] {
    line.action = [options](const Console& console) { return Finish(Cancel(*options, console), console); };
  });
}

}  // namespace slipway
