// Whether blocks cover a tensor exactly.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "worker/engine/checkpoint/checkpoint.h"

namespace slipway::engine {

// CHECKPOINT_CORRUPT where the pieces (sorted by offsets) leave the shape, overlap, or leave a part of it out;
// LIMIT_EXCEEDED for a jumble of pieces that no checkpoint has. Names the tensor.
absl::Status CheckCoverage(const StoredTensor& tensor);

}  // namespace slipway::engine
