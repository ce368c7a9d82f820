// How planning refuses what the options ask for.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "common/error.h"

namespace slipway::engine {

// OPTION_UNSUPPORTED, naming the tensor or module; empty where it is none's in particular.
inline absl::Status Refused(std::string_view tensor, std::string message) {
  return Error(Reason::kOptionUnsupported, std::move(message), {.tensor = std::string(tensor)});
}

}  // namespace slipway::engine
