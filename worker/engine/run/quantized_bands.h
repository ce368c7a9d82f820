// How the outputs of a quantized weight are cut: into bands of its values, each of which is coded on its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

// A weight's values in the order of QuantizedWeight::values, cut into `count` bands of `rows` x `columns` (the last
// may have fewer rows): the least that can be coded.
struct Bands {
  std::int64_t rows = 1;
  std::int64_t columns = 0;
  std::int64_t total_rows = 0;  // of all of them: bands lie one below the other
  [[nodiscard]] std::int64_t elements() const { return rows * columns; }
};

[[nodiscard]] Bands BandsOf(const QuantizedWeight& weight);

// Whether bands are strips of columns, which are coded one by one and not several as one.
[[nodiscard]] bool HasStrips(const QuantizedWeight& weight);

// How many columns of its codes are written.
[[nodiscard]] std::int64_t KeptColumnsOf(const QuantizedWeight& weight);

// Of whole rows of the weight, elements of `element_bytes` each, what is kept: one row after the other.
[[nodiscard]] std::vector<std::byte> KeptColumns(const QuantizedWeight& weight, std::span<const std::byte> rows,
                                                 std::int64_t element_bytes);

// Rows from `row` on that are coded at once, at most `rows`: a strip, or what is left of a matrix of a stack.
[[nodiscard]] std::int64_t RowsFrom(const QuantizedWeight& weight, std::int64_t row, std::int64_t rows);

// The matrices that have a TensorScale of their own, which is that of QuantizedWeight::scale_group + number.
struct ScaledMatrix {
  std::int64_t number = 0;
  std::int64_t rows_left = 0;  // from the row on
};
std::int64_t ScaledMatrixCount(const QuantizedWeight& weight);
ScaledMatrix ScaledMatrixAt(const QuantizedWeight& weight, std::int64_t row);

// Whether an output of the role is made of the weight's values.
[[nodiscard]] bool NeedsValues(StoredRole role);

// Bytes of the output of `role` for `rows` rows of the bands, whole bands but for the last.
[[nodiscard]] std::int64_t OutputBytesOf(const QuantizedWeight& weight, StoredRole role, std::int64_t rows);

// What the largest band of the plan takes beside what a segment takes anyway.
[[nodiscard]] std::int64_t BandMemory(const ExportPlan& plan);

}  // namespace slipway::engine
