#include "worker/engine/plan/region_rows.h"

#include <algorithm>

namespace slipway::engine {

void AppendRows(const SourceRegion& region, std::size_t axis, std::int64_t first, std::int64_t count,
                std::vector<SourceRegion>& regions) {
  const std::int64_t rows = region.sizes[axis];
  while (count > 0) {
    SourceRegion& slice = regions.emplace_back(region);
    slice.offsets[axis] += first % rows;
    slice.sizes[axis] = std::min(count, rows - first % rows);
    std::int64_t matrix = first / rows;
    for (std::size_t outer = axis; outer-- > 0; matrix /= region.sizes[outer]) {
      slice.offsets[outer] += matrix % region.sizes[outer];
      slice.sizes[outer] = 1;
    }
    first += slice.sizes[axis];
    count -= slice.sizes[axis];
  }
}

}  // namespace slipway::engine
