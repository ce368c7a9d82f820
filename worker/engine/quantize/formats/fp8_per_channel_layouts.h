// FP8 with one scale a row, as compressed-tensors stores it.
#pragma once

#include <array>

#include "worker/engine/quantize/formats/loaders.h"
#include "worker/engine/quantize/formats/shapes.h"

namespace slipway::engine::fp8_per_channel {

inline constexpr Coding kCoding{
    .element = Element::kE4M3, .sharing = Sharing::kRow, .bound = 448, .scale_dtype = DType::kF32};

inline constexpr std::array kCompressedTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kF8E4M3, .shape = Matrix},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .model_dtype = true, .shape = PerRowColumn},
});

inline constexpr Layout kCompressedLayout{.form = ConfigForm::kCompressedTensors,
                                          .activations = Activations::kDynamic,
                                          .coding = kCoding,
                                          .tensors = kCompressedTensors,
                                          .algorithm = "float-quantized",
                                          .input_bound = 448,
                                          .loaders = kLoadsAll,
                                          .expert_loaders = kLoadsVllmAndSglang};

}  // namespace slipway::engine::fp8_per_channel
