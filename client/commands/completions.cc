// slipway completions: a script for the shell, made from the program's own description of its options.
#include <memory>
#include <string>

#include "client/commands/commands.h"
#include "client/completions.h"

namespace slipway {

void AddCompletionsCommand(CLI::App& app, CommandLine& line) {
  CLI::App& command = *app.add_subcommand("completions", "Print a completion script for a shell");
  const auto shell = std::make_shared<std::string>();
  command.add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->type_name("")
      ->check(CLI::IsMember(std::vector<std::string>{"bash", "zsh", "fish"}));
  AddConsoleOptions(command, line);
  command.callback([&line, &app, shell] {
    line.action = [&app, shell](const Console& console) {
      console.out << RenderCompletions(app, *shell);
      return ExitStatus::kDone;
    };
  });
}

}  // namespace slipway
