// The program `slipway`: from words to an exit status.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>

#include "client/console.h"
#include "client/options.h"
#include "common/reason.h"

namespace slipway {

// All commands; parsing leaves the chosen one in `line`, which outlives it.
std::unique_ptr<CLI::App> MakeApplication(CommandLine& line);

// The name among `candidates` that `word` was probably meant to be; empty where none is near.
std::string DidYouMean(std::string_view word, const std::vector<std::string>& candidates);

// Parses `words` (without the program's name) and runs what they say. Wrong usage is an INVALID_ARGUMENT on the
// console's `err` and kUsage. Options that concern the console replace what `console` says.
ExitStatus RunApplication(const std::vector<std::string>& words, Console& console);

}  // namespace slipway
