// slipway inspect: what is in a checkpoint. Without --server the engine looks in this process.
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "client/commands/commands.h"
#include "client/exit.h"
#include "client/inspection_view.h"
#include "common/error.h"
#include "common/rpc/rpc_status.h"
#include "slipway/v1/checkpoint.grpc.pb.h"
#include "worker/engine/plan/inspection.h"

namespace slipway {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::chrono::seconds kInspectTimeout{600};

struct InspectCommand {
  std::string checkpoint;
  std::optional<std::int64_t> iteration;
  bool tensors = false;
  std::string hf_config;
  std::string architecture;
  ServerOptions server;
};

absl::StatusOr<Json> InspectThere(const InspectCommand& command) {
  SLIPWAY_ASSIGN_OR_RETURN(const auto connection, Connect(command.server));
  v1::InspectCheckpointRequest request;
  request.set_checkpoint(command.checkpoint);
  request.set_tensors(command.tensors);
  request.set_hf_config(command.hf_config);
  request.set_architecture(command.architecture);
  if (command.iteration) {
    request.set_iteration(*command.iteration);
  }
  grpc::ClientContext context;
  connection->Authorize(context);
  context.set_deadline(std::chrono::system_clock::now() + kInspectTimeout);
  v1::InspectCheckpointResponse response;
  const auto stub = v1::CheckpointService::NewStub(connection->channel());
  SLIPWAY_RETURN_IF_ERROR(FromGrpcStatus(stub->InspectCheckpoint(&context, request, &response), context));
  Json inspection = Json::parse(response.inspection_json(), nullptr, /*allow_exceptions=*/false);
  if (!inspection.is_object()) {
    return Error(Reason::kInternal, "the inspection is not a JSON object");
  }
  return inspection;
}

absl::Status Inspect(const InspectCommand& command, const Console& console) {
  const bool here = command.server.address.empty();
  SLIPWAY_ASSIGN_OR_RETURN(const Json inspection, here ? engine::Inspect({.checkpoint = command.checkpoint,
                                                                          .iteration = command.iteration,
                                                                          .tensors = command.tensors,
                                                                          .hf_config = command.hf_config,
                                                                          .architecture = command.architecture})
                                                       : InspectThere(command));
  if (console.json) {
    console.PrintJson({{"inspection", inspection}});
  } else {
    console.out << RenderInspection(inspection, console.out_terminal.width);
  }
  return absl::OkStatus();
}

}  // namespace

void AddInspectCommand(CLI::App& app, CommandLine& line) {
  CLI::App& command = *app.add_subcommand("inspect", "Show what is in a checkpoint, and what is ignored and why");
  const auto options = std::make_shared<InspectCommand>();
  AddCheckpointArgument(command, options->checkpoint);
  AddIterationOption(command, options->iteration);
  command.add_flag("--tensors", options->tensors, "Show every tensor");
  command.add_option("--hf-config", options->hf_config, "Let config.json from here say what the checkpoint does not")
      ->type_name("DIR");
  command.add_option("--architecture", options->architecture, "A Hugging Face class name, over what was inferred")
      ->type_name("NAME");
  AddServerOptions(command, options->server);
  AddConsoleOptions(command, line);
  command.callback([&line, options] {
    line.action = [options](const Console& console) { return Finish(Inspect(*options, console), console); };
  });
}

}  // namespace slipway
