// How planning refuses what the options ask for.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "common/error.h"

namespace slipway::engine {

// OPTION_UNSUPPORTED, naming the tensor or module; empty where it is none's in particular.
inline absl::Status Refused(std::string_view tensor, std::string_view message) {
  return Error(Reason::kOptionUnsupported, message, {.tensor = std::string(tensor)});
}

}  // namespace slipway::engine
