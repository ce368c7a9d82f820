// How a command ends: an error as people or programs see it, and the exit status that goes with it.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "client/console.h"
#include "common/reason.h"

namespace slipway {

// "slipway: REASON: message", then a line each for the tensor, file and offset where there are any, then the advice.
std::string RenderError(const absl::Status& status);

// {"error": {"reason", "message", "tensor", "file", "offset"}}; parts that are absent are left out.
nlohmann::ordered_json ErrorToJson(const absl::Status& status);

// Prints a failure to `err` (and with --json to `out`) and returns its exit status; kDone for OK, without printing.
ExitStatus Finish(const absl::Status& status, const Console& console);

}  // namespace slipway
