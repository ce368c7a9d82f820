#include "client/completions.h"

#include <vector>

#include <fmt/format.h>

namespace slipway {
namespace {

struct CompletedCommand {
  std::string name;
  std::string description;
  std::vector<const CLI::Option*> options;  // those with a name that begins with "--"
};

std::vector<CompletedCommand> CommandsOf(const CLI::App& app) {
  std::vector<CompletedCommand> commands;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    CompletedCommand completed{command->get_name(), command->get_description(), {}};
    for (const CLI::Option* option : command->get_options([](const CLI::Option*) { return true; })) {
      if (!option->get_lnames().empty()) {
        completed.options.push_back(option);
      }
    }
    commands.push_back(std::move(completed));
  }
  return commands;
}

// Between single quotes, in all three shells' understanding, or in zsh's "[...]".
std::string Quotable(std::string text) {
  for (char& letter : text) {
    letter = letter == '\'' || letter == '[' || letter == ']' || letter == ':' || letter == '\\' ? ' ' : letter;
  }
  return text;
}

std::string Bash(const std::vector<CompletedCommand>& commands) {
  std::string names;
  std::string cases;
  for (const CompletedCommand& command : commands) {
    std::string options;
    for (const CLI::Option* option : command.options) {
      options += " --" + option->get_lnames().front();
    }
    names += " " + command.name;
    cases += fmt::format("    {}) words='{}' ;;\n", command.name, options);
  }
  return fmt::format(
      "_slipway() {{\n"
      "  local current=${{COMP_WORDS[COMP_CWORD]}} words=''\n"
      "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
      "    COMPREPLY=($(compgen -W '{} --help --version' -- \"$current\"))\n"
      "    return\n"
      "  fi\n"
      "  case ${{COMP_WORDS[1]}} in\n{}  esac\n"
      "  case $current in\n"
      "    -*) COMPREPLY=($(compgen -W \"$words\" -- \"$current\")) ;;\n"
      "    *) COMPREPLY=($(compgen -f -- \"$current\")) ;;\n"
      "  esac\n"
      "}}\n"
      "complete -o filenames -F _slipway slipway\n",
      names, cases);
}

std::string Zsh(const std::vector<CompletedCommand>& commands) {
  std::string names;
  std::string cases;
  for (const CompletedCommand& command : commands) {
    names += fmt::format("    '{}:{}'\n", command.name, Quotable(command.description));
    cases += fmt::format("    {}) _arguments", command.name);
    for (const CLI::Option* option : command.options) {
      const bool takes_value = option->get_items_expected_max() > 0;
      cases += fmt::format(" '--{}[{}]{}'", option->get_lnames().front(), Quotable(option->get_description()),
                           takes_value ? ":value:_files" : "");
    }
    cases += " '*:file:_files' ;;\n";
  }
  return fmt::format(
      "#compdef slipway\n"
      "_slipway() {{\n"
      "  local -a commands\n"
      "  commands=(\n{}  )\n"
      "  if (( CURRENT == 2 )); then\n"
      "    _describe command commands\n"
      "    return\n"
      "  fi\n"
      "  local command=$words[2]\n"
      "  shift words\n"
      "  (( CURRENT-- ))\n"
      "  case $command in\n{}  esac\n"
      "}}\n"
      "compdef _slipway slipway\n",
      names, cases);
}

std::string Fish(const std::vector<CompletedCommand>& commands) {
  std::string text;
  for (const CompletedCommand& command : commands) {
    text += fmt::format("complete -c slipway -n __fish_use_subcommand -f -a {} -d '{}'\n", command.name,
                        Quotable(command.description));
    for (const CLI::Option* option : command.options) {
      const bool takes_value = option->get_items_expected_max() > 0;
      text += fmt::format("complete -c slipway -n '__fish_seen_subcommand_from {}' -l {}{} -d '{}'\n", command.name,
                          option->get_lnames().front(), takes_value ? " -r" : "", Quotable(option->get_description()));
    }
  }
  return text;
}

}  // namespace

std::string RenderCompletions(const CLI::App& app, std::string_view shell) {
  const std::vector<CompletedCommand> commands = CommandsOf(app);
  return shell == "bash" ? Bash(commands) : shell == "zsh" ? Zsh(commands) : Fish(commands);
}

}  // namespace slipway
