// One function a command: adds it to the program with its options; parsing then leaves what to do in `line`.
#pragma once

#include <CLI/CLI.hpp>

#include "client/options.h"

namespace slipway {

void AddExportCommand(CLI::App& app, CommandLine& line);
void AddSubmitCommand(CLI::App& app, CommandLine& line);
void AddWatchCommand(CLI::App& app, CommandLine& line);
void AddGetCommand(CLI::App& app, CommandLine& line);
void AddListCommand(CLI::App& app, CommandLine& line);
void AddCancelCommand(CLI::App& app, CommandLine& line);
void AddDeleteCommand(CLI::App& app, CommandLine& line);
void AddDownloadCommand(CLI::App& app, CommandLine& line);
void AddPlanCommand(CLI::App& app, CommandLine& line);
void AddInspectCommand(CLI::App& app, CommandLine& line);
void AddVerifyCommand(CLI::App& app, CommandLine& line);
void AddFormatsCommand(CLI::App& app, CommandLine& line);
void AddCompletionsCommand(CLI::App& app, CommandLine& line);

}  // namespace slipway
