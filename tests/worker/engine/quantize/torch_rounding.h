// Roundings that torch does and Slipway does not.
#pragma once

#include <cmath>
#include <cstdint>

#include "tests/worker/engine/quantize/nearest_code.h"
#include "worker/engine/dtype.h"
#include "worker/engine/float_bits.h"

namespace slipway::test {

// What torch makes of a quotient whose dtype is that of the weight.
inline float StoredByTorch(engine::DType dtype, float value) {
  return dtype == engine::DType::kBF16  ? engine::FromBFloat16(engine::ToBFloat16(value))
         : dtype == engine::DType::kF16 ? engine::FromHalf(engine::ToHalf(value))
                                        : value;
}

// torch's cast to E4M3 does not saturate: from the middle between 448 and the 480 that there is not on, it gives NaN.
inline std::uint8_t TorchE4M3(float value) {
  return std::fabs(value) > 464 ? static_cast<std::uint8_t>(value < 0 ? 0xFF : 0x7F)
                                : NearestCode(engine::Element::kE4M3, static_cast<double>(value));
}

}  // namespace slipway::test
