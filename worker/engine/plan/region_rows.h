// Rows of a region of a stored tensor, as regions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "worker/engine/plan/source_region.h"

namespace slipway::engine {

// Appends rows [first, first + count) of the matrices that a region is made of: `axis` counts a matrix's rows, the axes
// before it count matrices. One region a matrix.
void AppendRows(const SourceRegion& region, std::size_t axis, std::int64_t first, std::int64_t count,
                std::vector<SourceRegion>& regions);

}  // namespace slipway::engine
