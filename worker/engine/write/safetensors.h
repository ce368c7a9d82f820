// The headers of safetensors files that are written; checkpoint/safetensors_header.h has the layout and the reader.
#pragma once

#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/safetensors_header.h"

namespace slipway::engine {

// Parts 1 and 2 of a file whose tensors lie one after the other in the order given; begin and end are filled in.
// LIMIT_EXCEEDED where the header would be longer than consumers take.
absl::StatusOr<std::string> MakeSafetensorsHeader(std::span<SafetensorsEntry> entries);

}  // namespace slipway::engine
