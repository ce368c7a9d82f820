// The columns of a tensor, each times a factor of its own: what OutputTensor::column_factors asks for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

// Whether it is known which column an element of the output belongs to: permutations that leave the last axis where it
// is, and tensors of whole rows of as many columns as there are factors.
[[nodiscard]] bool CanScaleColumns(const OutputTensor& tensor);

// Multiplies the elements of the output from number `first` on, of dtype transform.to, in FP32 and rounds them back.
// Requires column_factors and CanScaleColumns. Thread-safe.
void ScaleColumns(const OutputTensor& tensor, std::int64_t first, std::span<std::byte> elements);

}  // namespace slipway::engine
