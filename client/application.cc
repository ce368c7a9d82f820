#include "client/application.h"

#include <algorithm>
#include <cstddef>
#include <numeric>

#include <fmt/format.h>

#include "client/commands/commands.h"
#include "client/exit.h"
#include "common/error.h"

namespace slipway {
namespace {

// Levenshtein's distance.
std::size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

std::vector<std::string> CommandNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  return names;
}

std::vector<std::string> OptionNames(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options([](const CLI::Option*) { return true; })) {
    for (const std::string& name : option->get_lnames()) {
      names.push_back("--" + name);
    }
  }
  return names;
}

std::string Suggestion(std::string_view word, const std::vector<std::string>& candidates) {
  const std::string nearest = DidYouMean(word, candidates);
  return nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest);
}

// What is wrong with `words`, as helpfully as can be. `parser_message` is the parser's own opinion.
std::string DescribeUsageError(const CLI::App& app, const std::vector<std::string>& words,
                               const std::string& parser_message) {
  const std::vector<std::string> commands = CommandNames(app);
  const auto first = std::ranges::find_if(words, [](const std::string& word) { return !word.starts_with("-"); });
  if (first == words.end()) {
    return "a command is required; `slipway --help` lists them";
  }
  if (std::ranges::find(commands, *first) == commands.end()) {
    return fmt::format("there is no command '{}'{}", *first, Suggestion(*first, commands));
  }
  const std::vector<std::string> options = OptionNames(*app.get_subcommand(*first));
  for (auto word = first + 1; word != words.end(); ++word) {
    const std::string name = word->substr(0, word->find('='));
    const bool known = !name.starts_with("--") || name == "--" || std::ranges::find(options, name) != options.end();
    if (!known) {
      return fmt::format("`slipway {}` has no option '{}'{}", *first, name, Suggestion(name, options));
    }
  }
  return fmt::format("{}; see `slipway {} --help`", parser_message, *first);
}

ExitStatus ReportUsageError(const std::string& message, const Console& console) {
  (void)Finish(Error(Reason::kInvalidArgument, message), console);
  return ExitStatus::kUsage;
}

}  // namespace

std::string DidYouMean(std::string_view word, const std::vector<std::string>& candidates) {
  std::string nearest;
  std::size_t best = word.size() / 3 + 2;  // farther ones are other words
  for (const std::string& candidate : candidates) {
    const std::size_t distance = EditDistance(word, candidate);
    if (distance < best) {
      best = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

std::unique_ptr<CLI::App> MakeApplication(CommandLine& line) {
  auto app = std::make_unique<CLI::App>(
      "Exports trained Megatron-Core checkpoints to directories that inference servers load.", "slipway");
  app->set_version_flag("--version", "slipway " SLIPWAY_VERSION);
  app->require_subcommand(1);
  app->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  AddExportCommand(*app, line);
  AddSubmitCommand(*app, line);
  AddWatchCommand(*app, line);
  AddGetCommand(*app, line);
  AddListCommand(*app, line);
  AddCancelCommand(*app, line);
  AddDeleteCommand(*app, line);
  AddDownloadCommand(*app, line);
  AddPlanCommand(*app, line);
  AddInspectCommand(*app, line);
  AddVerifyCommand(*app, line);
  AddFormatsCommand(*app, line);
  AddCompletionsCommand(*app, line);
  return app;
}

ExitStatus RunApplication(const std::vector<std::string>& words, Console& console) {
  CommandLine line;
  const std::unique_ptr<CLI::App> app = MakeApplication(line);
  // The parser may stop before it sees them.
  console.json = std::ranges::find(words, "--json") != words.end();
  try {
    app->parse(std::vector<std::string>(words.rbegin(), words.rend()));
  } catch (const CLI::Success& success) {
    app->exit(success, console.out, console.err);
    return ExitStatus::kDone;
  } catch (const CLI::ParseError& error) {
    return ReportUsageError(DescribeUsageError(*app, words, error.what()), console);
  }
  console.json = line.json;
  console.quiet = line.quiet;
  return line.action(console);
}

}  // namespace slipway
