// Elements of rows, each to its own place: the inner loop of a permutation of axes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "worker/engine/plan/export_plan.h"
#include "worker/engine/transform/rounding.h"

namespace slipway::engine {

// `count` rows of `columns` elements each.
struct RowScatter {
  std::int64_t count = 0;
  std::int64_t columns = 0;
  std::int64_t source_step = 0;    // bytes from a row to the next; rows may overlap
  std::int64_t row_stride = 0;     // elements of the output from a row to the next
  std::int64_t column_stride = 0;  // elements of the output from a column to the next
};

// Transforms the elements at `source` and writes them to their places from `output` on; both of any alignment.
// Requires CanTransform, and room at all places. Thread-safe; takes 32 KiB of stack. `rounding` as TransformElements.
void ScatterRows(const ElementTransform& transform, const RowScatter& scatter, const std::byte* source,
                 std::byte* output, Rounding* rounding = nullptr);

}  // namespace slipway::engine
