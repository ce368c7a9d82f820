// slipway get: one export.
#include <chrono>
#include <memory>
#include <string>

#include "client/commands/commands.h"
#include "client/exit.h"
#include "client/export_client.h"
#include "client/export_summary.h"
#include "client/message_json.h"
#include "common/clock.h"
#include "common/error.h"

namespace slipway {
namespace {

struct GetCommand {
  std::string name;
  ServerOptions server;
};

absl::Status Get(const GetCommand& command, const Console& console) {
  SLIPWAY_ASSIGN_OR_RETURN(const auto connection, Connect(command.server));
  SLIPWAY_ASSIGN_OR_RETURN(const v1::Export item, ExportClient(connection).Get(command.name));
  if (console.json) {
    console.PrintJson({{"export", MessageToJson(item)}});
  } else {
    const std::chrono::duration<double> now = SystemClock().WallNow().time_since_epoch();
    console.out << RenderExport(item, now.count(), console.out_terminal.width);
  }
  return absl::OkStatus();
}

}  // namespace

void AddGetCommand(CLI::App& app, CommandLine& line) {
  CLI::App& command = *app.add_subcommand("get", "Show an export");
  const auto options = std::make_shared<GetCommand>();
  AddNameArgument(command, options->name);
  AddServerOptions(command, options->server);
  command.get_option("--server")->required();
  AddConsoleOptions(command, line);
  command.callback([&line, options] {
    line.action = [options](const Console& console) { return Finish(Get(*options, console), console); };
  });
}

}  // namespace slipway
