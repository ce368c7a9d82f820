// slipway verify: prove an artifact against its manifest.
#include <memory>
#include <string>

#include <fmt/format.h>

#include "client/commands/commands.h"
#include "client/exit.h"
#include "client/human.h"
#include "client/verify_artifact.h"
#include "common/error.h"

namespace slipway {
namespace {

struct VerifyCommand {
  std::string artifact;
  std::string against;
  std::string tokens;
};

absl::Status Verify(const VerifyCommand& command, const Console& console) {
  if (!command.against.empty()) {
    return Error(Reason::kOptionUnsupported, "this version cannot compare with a checkpoint (--against) yet");
  }
  SLIPWAY_ASSIGN_OR_RETURN(const engine::VerifyReport report, VerifyWithProgress(command.artifact, console));
  if (console.json) {
    console.PrintJson({{"verified", command.artifact},
                       {"files", report.files},
                       {"tensors", report.tensors},
                       {"bytes", report.bytes},
                       {"plan_hash", report.plan_hash},
                       {"digest_algorithm", report.digest_algorithm}});
  } else {
    console.out << fmt::format("{}: whole; {}, {}, {}, digests: {}\n", command.artifact,
                               HumanCount(report.files, "file"), HumanCount(report.tensors, "tensor"),
                               HumanBytes(report.bytes), report.digest_algorithm);
  }
  return absl::OkStatus();
}

}  // namespace

void AddVerifyCommand(CLI::App& app, CommandLine& line) {
  CLI::App& command = *app.add_subcommand("verify", "Prove an artifact: digests, files, tensors");
  const auto options = std::make_shared<VerifyCommand>();
  command.add_option("ARTIFACT", options->artifact, "The artifact's directory")->required()->type_name("");
  CLI::Option* against = command.add_option("--against", options->against, "Compare the weights with this checkpoint")
                             ->type_name("CHECKPOINT");
  command.add_option("--tokens", options->tokens, "Run both forward over these tokens")
      ->type_name("FILE")
      ->needs(against);
  AddConsoleOptions(command, line);
  command.callback([&line, options] {
    line.action = [options](const Console& console) { return Finish(Verify(*options, console), console); };
  });
}

}  // namespace slipway
