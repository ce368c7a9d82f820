// slipway formats: what can be read and written.
#include <span>
#include <string>

#include "client/commands/commands.h"
#include "client/table.h"
#include "common/vocabulary.h"
#include "worker/engine/model/architecture.h"

namespace slipway {
namespace {

using Json = nlohmann::ordered_json;

std::string RenderWords(const char* title, std::span<const Word> words, int width) {
  Table table({{.title = title},
               {.title = "NOW"},
               {.title = "WHAT", .minimum = 20},
               {.title = "NEEDS", .minimum = 12},
               {.title = "LOADED BY", .minimum = 12}});
  for (const Word& word : words) {
    table.AddRow({std::string(word.name), word.supported ? "yes" : "not yet", std::string(word.summary),
                  std::string(word.needs), std::string(word.loaders)});
  }
  return table.Render(width);
}

std::string RenderArchitectures(int width) {
  Table table({{.title = "ARCHITECTURE"},
               {.title = "MODEL TYPE"},
               {.title = "MODELS", .minimum = 16},
               {.title = "PROVEN BY A CHECKPOINT", .minimum = 16}});
  for (const engine::Architecture* architecture : engine::Architectures()) {
    table.AddRow({std::string(architecture->name), std::string(architecture->model_type),
                  std::string(architecture->summary), std::string(engine::SummaryOf(architecture->proof))});
  }
  return table.Render(width);
}

Json WordsToJson(std::span<const Word> words) {
  Json list = Json::array();
  for (const Word& word : words) {
    list.push_back({{"name", std::string(word.name)},
                    {"supported", word.supported},
                    {"summary", std::string(word.summary)},
                    {"needs", std::string(word.needs)},
                    {"loaders", std::string(word.loaders)}});
  }
  return list;
}

ExitStatus Formats(const Console& console) {
  if (!console.json) {
    const int width = console.out_terminal.width;
    console.out << RenderWords("TARGET", Targets(), width) << '\n'
                << RenderWords("QUANTIZATION", QuantizationFormats(), width) << '\n'
                << RenderArchitectures(width);
    return ExitStatus::kDone;
  }
  Json architectures = Json::array();
  for (const engine::Architecture* architecture : engine::Architectures()) {
    architectures.push_back({{"name", std::string(architecture->name)},
                             {"model_type", std::string(architecture->model_type)},
                             {"summary", std::string(architecture->summary)},
                             {"proof", std::string(engine::NameOf(architecture->proof))},
                             {"needs_hf_config", architecture->beyond_arguments}});
  }
  console.PrintJson({{"targets", WordsToJson(Targets())},
                     {"quantization", WordsToJson(QuantizationFormats())},
                     {"architectures", std::move(architectures)}});
  return ExitStatus::kDone;
}

}  // namespace

void AddFormatsCommand(CLI::App& app, CommandLine& line) {
  CLI::App& command = *app.add_subcommand("formats", "List targets, quantization formats and architectures");
  AddConsoleOptions(command, line);
  command.callback([&line] { line.action = Formats; });
}

}  // namespace slipway
