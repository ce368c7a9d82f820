// FP8 with one scale a tensor: what its forms share.
#pragma once

#include "worker/engine/quantize/coding.h"

namespace slipway::engine::fp8 {

inline constexpr Coding kCoding{
    .element = Element::kE4M3, .sharing = Sharing::kTensor, .bound = 448, .scale_dtype = DType::kF32};

}  // namespace slipway::engine::fp8
