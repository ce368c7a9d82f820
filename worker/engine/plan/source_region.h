#pragma once

#include <cstdint>

#include "worker/engine/shape.h"

namespace slipway::engine {

// A rectangular block of a stored tensor, in the stored tensor's own axes. Its elements in row-major order are what
// it stands for.
struct SourceRegion {
  std::int32_t tensor = 0;  // index into Checkpoint::tensors
  Shape offsets;
  Shape sizes;
};

}  // namespace slipway::engine
