// Shapes and positions in tensors: extents or indices, outermost axis first, in elements.
#pragma once

#include <cstdint>

#include "absl/container/inlined_vector.h"

namespace slipway::engine {

using Shape = absl::InlinedVector<std::int64_t, 4>;

}  // namespace slipway::engine
