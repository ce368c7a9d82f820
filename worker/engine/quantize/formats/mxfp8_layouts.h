// MXFP8 as compressed-tensors stores it.
#pragma once

#include <array>

#include "worker/engine/quantize/formats/loaders.h"
#include "worker/engine/quantize/formats/shapes.h"

namespace slipway::engine::mxfp8 {

inline constexpr Coding kCompressedCoding{.element = Element::kE4M3,
                                          .sharing = Sharing::kGroup,
                                          .group = 32,
                                          .rule = ScaleRule::kPowerOfTwoRounded,
                                          .bound = 448,
                                          .scale_dtype = DType::kU8};

inline constexpr std::array kTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kF8E4M3, .shape = Matrix},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .dtype = DType::kU8, .shape = PerGroup},
});

inline constexpr Layout kCompressedLayout{.form = ConfigForm::kCompressedTensors,
                                          .activations = Activations::kDynamic,
                                          .coding = kCompressedCoding,
                                          .tensors = kTensors,
                                          .algorithm = "mxfp8-quantized",
                                          .input_bound = 448,
                                          .loaders = kLoadsVllm,
                                          .expert_loaders = kLoadsVllm};

}  // namespace slipway::engine::mxfp8
