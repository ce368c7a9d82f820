// slipway verify: prove an artifact against its manifest, and against the checkpoint it was made of.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "client/commands/commands.h"
#include "client/exit.h"
#include "client/human.h"
#include "client/table.h"
#include "client/verify_artifact.h"
#include "common/digest.h"
#include "common/error.h"

namespace slipway {
namespace {

struct VerifyCommand {
  std::string artifact;
  std::string against;
  std::string tokens;
};

std::string Named(double decibels) { return std::isfinite(decibels) ? fmt::format("{:.2f}", decibels) : "exact"; }

nlohmann::ordered_json Number(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json(nullptr);
}

nlohmann::ordered_json ToJson(const engine::ComparisonReport& report) {
  nlohmann::ordered_json weights = nlohmann::ordered_json::array();
  for (const engine::ComparedWeight& weight : report.weights) {
    weights.push_back({{"name", weight.name},
                       {"format", weight.format},
                       {"sqnr_db", Number(weight.found.SignalToQuantizationNoise())},
                       {"relative_error", weight.found.RelativeError()},
                       {"saturated", weight.found.saturated},
                       {"zeros", weight.found.zeros},
                       {"largest_error", weight.found.largest_error},
                       {"within_bound", weight.found.RelativeError() <= weight.error_bound},
                       {"agrees", weight.Agrees()}});
  }
  nlohmann::ordered_json different = nlohmann::ordered_json::array();
  for (const engine::DifferentTensor& tensor : report.different) {
    different.push_back({{"name", tensor.name}, {"file", tensor.file}, {"offset", tensor.offset}});
  }
  return {{"passed", report.Passed()},
          {"same_output", report.same_output},
          {"sqnr_db", Number(report.Total().SignalToQuantizationNoise())},
          {"relative_error", report.Total().RelativeError()},
          {"equal_tensors", report.equal},
          {"different", std::move(different)},
          {"weights", std::move(weights)}};
}

std::string Render(const engine::ComparisonReport& report, int width) {
  std::string text;
  if (!report.weights.empty()) {
    Table table({{.title = "TENSOR", .minimum = 24},
                 {.title = "FORMAT"},
                 {.title = "SQNR dB", .align_right = true},
                 {.title = "REPORTED", .align_right = true},
                 {.title = "ERROR", .align_right = true},
                 {.title = "SATURATED", .align_right = true},
                 {.title = "BOUND"},
                 {.title = "RESULT"}});
    for (const engine::ComparedWeight& weight : report.weights) {
      table.AddRow({weight.name, weight.format, Named(weight.found.SignalToQuantizationNoise()),
                    weight.reported ? Named(weight.reported->SignalToQuantizationNoise()) : "none",
                    fmt::format("{:.3f} %", weight.found.RelativeError() * 100), HumanCount(weight.found.saturated),
                    weight.found.RelativeError() <= weight.error_bound ? "within" : "outside",
                    weight.Agrees() ? "PASS" : "FAIL"});
    }
    text += table.Render(width);
    text += fmt::format("{} quantized, {} dB, relative error {:.3f} %\n",
                        HumanCount(static_cast<std::int64_t>(report.weights.size()), "tensor"),
                        Named(report.Total().SignalToQuantizationNoise()), report.Total().RelativeError() * 100);
  }
  text += fmt::format("{} equal to the source, bit for bit\n", HumanCount(report.equal, "other tensor"));
  for (const engine::DifferentTensor& tensor : report.different) {
    text += fmt::format("{} differs from the source at byte {} of {}\n", tensor.name, tensor.offset, tensor.file);
  }
  return text + (report.same_output ? "" : "an export of this checkpoint would have other files around the weights\n") +
         (report.Passed() ? "PASS\n" : "FAIL\n");
}

// An artifact beside the checkpoint. `path` is empty, or that of one of several targets' directories in the artifact.
struct Compared {
  std::string path;
  engine::ComparisonReport report;
};

absl::StatusOr<std::vector<Compared>> Compare(const VerifyCommand& command, const engine::VerifyReport& verified,
                                              const Console& console) {
  std::vector<Compared> compared;
  if (command.against.empty()) {
    return compared;
  }
  if (verified.directories.empty()) {
    SLIPWAY_ASSIGN_OR_RETURN(auto report, CompareWithProgress(command.artifact, command.against, console));
    compared.push_back({.path = "", .report = std::move(report)});
  }
  for (const engine::VerifiedDirectory& directory : verified.directories) {
    SLIPWAY_ASSIGN_OR_RETURN(auto report, CompareWithProgress(fmt::format("{}/{}", command.artifact, directory.path),
                                                              command.against, console));
    compared.push_back({.path = directory.path, .report = std::move(report)});
  }
  return compared;
}

nlohmann::ordered_json ToJson(const VerifyCommand& command, const engine::VerifyReport& report,
                              const std::vector<Compared>& compared) {
  nlohmann::ordered_json json{{"verified", command.artifact},  {"files", report.files},
                              {"tensors", report.tensors},     {"bytes", report.bytes},
                              {"plan_hash", report.plan_hash}, {"digest_algorithm", report.digest_algorithm}};
  for (const engine::VerifiedDirectory& directory : report.directories) {
    json["directories"].push_back({{"path", directory.path},
                                   {"target", directory.target},
                                   {"files", directory.files},
                                   {"tensors", directory.tensors},
                                   {"bytes", directory.bytes},
                                   {"plan_hash", directory.plan_hash}});
  }
  if (!compared.empty()) {
    json["against"] = command.against;
  }
  for (std::size_t i = 0; i < compared.size(); ++i) {
    (report.directories.empty() ? json : json["directories"][i])["comparison"] = ToJson(compared[i].report);
  }
  return json;
}

std::string Render(const VerifyCommand& command, const engine::VerifyReport& report,
                   const std::vector<Compared>& compared, int width) {
  // Without digests only names, sizes and headers could be looked at.
  const bool has_digests = report.digest_algorithm != NameOf(DigestAlgorithm::kNone);
  const auto line = [has_digests](const std::string& name, const auto& counts) {
    return fmt::format("{}: {}; {}, {}, {}", name, has_digests ? "whole" : "complete, contents not proven",
                       HumanCount(counts.files, "file"), HumanCount(counts.tensors, "tensor"),
                       HumanBytes(counts.bytes));
  };
  std::string text = fmt::format("{}, digests: {}\n", line(command.artifact, report), report.digest_algorithm);
  for (const engine::VerifiedDirectory& directory : report.directories) {
    text += fmt::format("{}, target: {}\n", line(fmt::format("{}/{}", command.artifact, directory.path), directory),
                        directory.target);
  }
  for (const Compared& one : compared) {
    text += one.path.empty() ? "" : fmt::format("{} against {}:\n", one.path, command.against);
    text += Render(one.report, width);
  }
  return text;
}

absl::StatusOr<ExitStatus> Verify(const VerifyCommand& command, const Console& console) {
  if (!command.tokens.empty()) {
    return Error(Reason::kOptionUnsupported,
                 "this version cannot run models forward (--tokens) yet; --against alone compares the weights");
  }
  SLIPWAY_ASSIGN_OR_RETURN(const engine::VerifyReport report, VerifyWithProgress(command.artifact, console));
  SLIPWAY_ASSIGN_OR_RETURN(const std::vector<Compared> compared, Compare(command, report, console));
  if (console.json) {
    console.PrintJson(ToJson(command, report, compared));
  } else {
    console.out << Render(command, report, compared, console.out_terminal.width);
  }
  if (std::ranges::all_of(compared, [](const Compared& one) { return one.report.Passed(); })) {
    return ExitStatus::kDone;
  }
  // What was printed says so already, and programs get one object.
  console.err << RenderError(
      Error(Reason::kArtifactCorrupt, "the artifact is not what the checkpoint and its report say"));
  return ExitStatus::kFailed;
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
    line.action = [options](const Console& console) {
      const auto status = Verify(*options, console);
      return status.ok() ? *status : Finish(status.status(), console);
    };
  });
}

}  // namespace slipway
