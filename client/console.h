// Where a command writes: results to `out`, everything else to `err`.
#pragma once

#include <ostream>

#include <nlohmann/json.hpp>

#include "client/terminal.h"

namespace slipway {

// The streams outlive it. Used by one thread at a time.
struct Console {
  std::ostream& out;
  std::ostream& err;
  Terminal out_terminal;
  Terminal err_terminal;
  bool json = false;   // one JSON object a line on `out`
  bool quiet = false;  // no progress

  // Writes one line of JSON and flushes it, so that a reader at the other end of a pipe sees it at once.
  void PrintJson(const nlohmann::ordered_json& json_object) const;
};

}  // namespace slipway
