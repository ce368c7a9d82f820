// Shell completions, derived from the options that the program parses.
#pragma once

#include <string>
#include <string_view>

#include <CLI/CLI.hpp>

namespace slipway {

// A script for "bash", "zsh" or "fish" that completes the commands of `app` and their options; files elsewhere.
std::string RenderCompletions(const CLI::App& app, std::string_view shell);

}  // namespace slipway
