// slipway plan: what an export would write. Without --server the engine plans in this process.
#include <memory>
#include <string>

#include <fmt/format.h>

#include "client/commands/commands.h"
#include "client/exit.h"
#include "client/export_client.h"
#include "client/plan_view.h"
#include "common/byte_size.h"
#include "common/error.h"
#include "worker/engine/plan/export_plan.h"

namespace slipway {
namespace {

struct PlanCommand {
  ExportFlags flags;
  ResourceFlags resources;
  ServerOptions server;
  bool tensors = false;
};

absl::StatusOr<std::string> PlanHere(const PlanCommand& command, bool with_tensors) {
  SLIPWAY_ASSIGN_OR_RETURN(const engine::ExportOptions options, ToExportOptions(command.flags));
  SLIPWAY_ASSIGN_OR_RETURN(const auto plan, engine::MakePlan(options));
  if (!command.resources.memory_budget.empty()) {
    SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t budget, ParseByteSize(command.resources.memory_budget));
    if (budget < plan->peak_memory_bytes) {
      return Error(Reason::kMemoryBudgetTooSmall,
                   fmt::format("the plan needs {} and the budget is {}", FormatByteSize(plan->peak_memory_bytes),
                               FormatByteSize(budget)));
    }
  }
  return engine::PlanToJson(*plan, with_tensors);
}

absl::StatusOr<std::string> PlanThere(const PlanCommand& command, bool with_tensors) {
  v1::CreateExportRequest request;
  SLIPWAY_ASSIGN_OR_RETURN(*request.mutable_spec(), ToExportSpec(command.flags, /*local=*/false));
  request.set_validate_only(true);
  request.set_omit_tensors(!with_tensors);
  SLIPWAY_ASSIGN_OR_RETURN(const auto connection, Connect(command.server));
  SLIPWAY_ASSIGN_OR_RETURN(const v1::Export planned, ExportClient(connection).Create(request));
  return planned.plan().plan_json();
}

absl::Status Plan(const PlanCommand& command, const Console& console) {
  const bool with_tensors = command.tensors || console.json;
  SLIPWAY_ASSIGN_OR_RETURN(const std::string text, command.server.address.empty() ? PlanHere(command, with_tensors)
                                                                                  : PlanThere(command, with_tensors));
  const auto plan = nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!plan.is_object()) {
    return Error(Reason::kInternal, "the plan is not a JSON object");
  }
  if (console.json) {
    console.PrintJson({{"plan", plan}});
  } else {
    console.out << RenderPlan(plan, command.tensors, console.out_terminal.width);
  }
  return absl::OkStatus();
}

}  // namespace

void AddPlanCommand(CLI::App& app, CommandLine& line) {
  CLI::App& command = *app.add_subcommand("plan", "Show what an export would write; writes nothing");
  const auto options = std::make_shared<PlanCommand>();
  AddExportOptions(command, options->flags);
  command.add_flag("--tensors", options->tensors, "Show every tensor");
  AddResourceOptions(command, options->resources);
  AddServerOptions(command, options->server);
  AddConsoleOptions(command, line);
  command.callback([&line, options] {
    line.action = [options](const Console& console) { return Finish(Plan(*options, console), console); };
  });
}

}  // namespace slipway
