// FP8 with a scale a block of 128 x 128, as compressed-tensors stores it.
#pragma once

#include <array>

#include "worker/engine/quantize/formats/loaders.h"
#include "worker/engine/quantize/formats/shapes.h"

namespace slipway::engine::fp8_block {

inline constexpr Coding kCoding{
    .element = Element::kE4M3, .sharing = Sharing::kSquare, .group = 128, .bound = 448, .scale_dtype = DType::kF32};

inline constexpr std::array kCompressedTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kF8E4M3, .shape = Matrix},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .model_dtype = true, .shape = PerSquare},
});

inline constexpr Layout kCompressedLayout{.form = ConfigForm::kCompressedTensors,
                                          .activations = Activations::kDynamic,
                                          .coding = kCoding,
                                          .tensors = kCompressedTensors,
                                          .algorithm = "float-quantized",
                                          .input_bound = 448,
                                          .loaders = kLoadsAll,
                                          .expert_loaders = kLoadsVllmAndSglang};

}  // namespace slipway::engine::fp8_block
