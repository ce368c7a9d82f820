// How far codes are from the values that they stand for, told from the stored bytes alone: element by element, by the
// plainest code, which shares nothing with what quantizes but the meaning of an element, of a scale and of a sum.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "worker/engine/quantize/quantizer.h"

namespace slipway::engine {

// A band as quantizer.h has it.
struct StoredBand {
  Coding coding;
  std::span<const std::byte> codes;             // CodeBytes
  std::span<const std::byte> scales;            // ScaleCount of scale_dtype; empty for kTensor
  std::span<const std::byte> zero_points = {};  // of codings that have them: words as PackZeroPoints makes them
  float tensor_scale = 1;
};

// One entry a row of the band. Requires CanCode and spans of those sizes. Thread-safe.
[[nodiscard]] std::vector<RowStatistics> MeasureStoredBand(const Values& values, const StoredBand& band);

}  // namespace slipway::engine
