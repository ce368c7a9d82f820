// slipway watch: follow an export to its end. An interrupt stops the watching, not the export.
#include <cstdint>
#include <memory>
#include <string>

#include <fmt/format.h>

#include "client/commands/commands.h"
#include "client/commands/interruptible.h"
#include "client/export_client.h"
#include "client/follow.h"
#include "client/message_json.h"
#include "common/error.h"

namespace slipway {
namespace {

struct WatchCommand {
  std::string name;
  std::int64_t from_sequence = 0;
  ServerOptions server;
};

absl::Status Watch(const WatchCommand& command, const Console& console, const std::stop_token& stop) {
  SLIPWAY_ASSIGN_OR_RETURN(const auto connection, Connect(command.server));
  const ExportClient client(connection);
  SLIPWAY_ASSIGN_OR_RETURN(const v1::Export finished,
                           Follow(client, command.name, command.from_sequence, console, stop));
  if (console.json) {
    console.PrintJson({{"export", MessageToJson(finished)}});
  } else {
    console.out << fmt::format("{} {} {}\n", finished.name(), NameOf(finished.state()), finished.artifact_path());
  }
  return absl::OkStatus();
}

}  // namespace

void AddWatchCommand(CLI::App& app, CommandLine& line) {
  CLI::App& command = *app.add_subcommand("watch", "Follow an export to its end");
  const auto options = std::make_shared<WatchCommand>();
  AddNameArgument(command, options->name);
  command.add_option("--from", options->from_sequence, "Number of the last event already seen")
      ->type_name("N")
      ->check(CLI::NonNegativeNumber);
  AddServerOptions(command, options->server);
  command.get_option("--server")->required();
  AddConsoleOptions(command, line);
  command.callback([&line, options] {
    line.action = [options](const Console& console) {
      return RunInterruptibly([&](const std::stop_token& stop) { return Watch(*options, console, stop); }, console);
    };
  });
}

}  // namespace slipway
