#pragma once

#include <cstdint>

#include "worker/engine/shape.h"

namespace slipway::engine {

// Instead of a stored tensor: as many zeros as the region's sizes say. Of OutputTensor::regions alone.
inline constexpr std::int32_t kZeros = -1;

// A rectangular block of a stored tensor, in the stored tensor's own axes. Its elements in row-major order are what
// it stands for.
struct SourceRegion {
  std::int32_t tensor = 0;  // index into Checkpoint::tensors, or kZeros
  Shape offsets;
  Shape sizes;
};

}  // namespace slipway::engine
