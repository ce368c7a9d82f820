// MXFP4 as compressed-tensors stores it.
#pragma once

#include <array>

#include "worker/engine/quantize/formats/loaders.h"
#include "worker/engine/quantize/formats/shapes.h"

namespace slipway::engine::mxfp4 {

inline constexpr Coding kCompressedCoding{.element = Element::kE2M1,
                                          .sharing = Sharing::kGroup,
                                          .group = 32,
                                          .rule = ScaleRule::kPowerOfTwoRounded,
                                          .bound = 6,
                                          .scale_dtype = DType::kU8,
                                          .packing = Packing::kNibblePairs};

inline constexpr std::array kCompressedTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight_packed", .role = StoredRole::kCodes, .dtype = DType::kU8, .shape = HalfColumns},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .dtype = DType::kU8, .shape = PerGroup},
});

inline constexpr Layout kWeightsLayout{.form = ConfigForm::kCompressedTensors,
                                       .activations = Activations::kNone,
                                       .coding = kCompressedCoding,
                                       .tensors = kCompressedTensors,
                                       .algorithm = "mxfp4-pack-quantized",
                                       .loaders = kLoadsVllm | kLoadsTensorRtLlm | kLoadsTransformers,
                                       .expert_loaders = kLoadsVllmAndSglang};
inline constexpr Layout kDynamicLayout{.form = ConfigForm::kCompressedTensors,
                                       .activations = Activations::kDynamic,
                                       .coding = kCompressedCoding,
                                       .tensors = kCompressedTensors,
                                       .algorithm = "mxfp4-pack-quantized",
                                       .input_bound = 6,
                                       .loaders = kLoadsVllm | kLoadsTransformers,
                                       .expert_loaders = kLoadsVllm};

}  // namespace slipway::engine::mxfp4
