// Parts of rows of Values as FP32.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>

#include "worker/engine/float_bits.h"
#include "worker/engine/quantize/quantizer.h"

namespace slipway::engine {

// Elements of `row` from `column` on, as many as `output` takes; the row has them.
inline void ReadValues(const Values& values, std::int64_t row, std::int64_t column, std::span<float> output) {
  const auto first = static_cast<std::size_t>(row * values.columns + column);
  if (values.dtype == DType::kF32) {
    std::memcpy(output.data(), values.bytes.data() + first * sizeof(float), output.size_bytes());
    return;
  }
  for (std::size_t i = 0; i < output.size(); ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, values.bytes.data() + (first + i) * sizeof(bits), sizeof(bits));
    output[i] = values.dtype == DType::kBF16 ? FromBFloat16(bits) : FromHalf(bits);
  }
}

}  // namespace slipway::engine
