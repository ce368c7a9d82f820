// slipway list: the exports of a service, newest first.
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "client/commands/commands.h"
#include "client/exit.h"
#include "client/export_client.h"
#include "client/export_summary.h"
#include "client/message_json.h"
#include "common/clock.h"
#include "common/error.h"

namespace slipway {
namespace {

struct ListCommand {
  std::string filter;
  std::int64_t limit = 50;
  ServerOptions server;
};

absl::Status List(const ListCommand& command, const Console& console) {
  SLIPWAY_ASSIGN_OR_RETURN(const auto connection, Connect(command.server));
  SLIPWAY_ASSIGN_OR_RETURN(const std::vector<v1::Export> exports,
                           ExportClient(connection).List(command.filter, command.limit));
  if (!console.json) {
    const std::chrono::duration<double> now = SystemClock().WallNow().time_since_epoch();
    console.out << RenderExportTable(exports, now.count(), console.out_terminal.width);
    return absl::OkStatus();
  }
  for (const v1::Export& item : exports) {
    console.PrintJson({{"export", MessageToJson(item)}});
  }
  return absl::OkStatus();
}

}  // namespace

void AddListCommand(CLI::App& app, CommandLine& line) {
  CLI::App& command = *app.add_subcommand("list", "List exports, newest first");
  const auto options = std::make_shared<ListCommand>();
  command.add_option("--filter", options->filter, "Terms joined by ' AND ': state=NAME, checkpoint=PATH")
      ->type_name("TERMS");
  command.add_option("--limit", options->limit, "At most so many (default: 50; 0: all)")
      ->type_name("N")
      ->check(CLI::NonNegativeNumber);
  AddServerOptions(command, options->server);
  command.get_option("--server")->required();
  AddConsoleOptions(command, line);
  command.callback([&line, options] {
    line.action = [options](const Console& console) { return Finish(List(*options, console), console); };
  });
}

}  // namespace slipway
