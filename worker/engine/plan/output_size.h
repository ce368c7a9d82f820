// How many bytes an output has.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

// Sets tensor.bytes from its shape and dtype. LIMIT_EXCEEDED, naming `blamed`, where they are more than 2^63.
absl::Status SetBytes(const std::string& blamed, OutputTensor& tensor);

}  // namespace slipway::engine
