// Logging of the programs: lines to stderr, as text for people or as JSON for machines.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace slipway {

enum class LogFormat { kText, kJson };

struct LogOptions {
  std::string program;         // "slipway-server": in every line
  std::string level = "info";  // "debug", "info", "warning", "error", "off"
  LogFormat format = LogFormat::kText;
};

// Sets spdlog's default logger up; from then on spdlog::info and the like may be called from any thread. Call once,
// in main, before there are threads. INVALID_ARGUMENT for an unknown level.
absl::Status SetUpLogging(const LogOptions& options);

// `text` as the inside of a JSON string: quotes, backslashes and control characters escaped, bytes that are not UTF-8
// replaced.
std::string EscapeForJson(std::string_view text);

}  // namespace slipway
