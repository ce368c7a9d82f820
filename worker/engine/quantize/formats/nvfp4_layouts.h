// What the formats of NVFP4 have in common in ModelOpt's form.
#pragma once

#include <array>

#include "worker/engine/quantize/formats/loaders.h"
#include "worker/engine/quantize/formats/shapes.h"

namespace slipway::engine::nvfp4 {

inline constexpr float kInputBound = 6 * 448;

inline constexpr Coding kModelOptCoding{.element = Element::kE2M1,
                                        .sharing = Sharing::kGroup,
                                        .group = 16,
                                        .rule = ScaleRule::kTwoLevel,
                                        .bound = 6,
                                        .scale_dtype = DType::kF8E4M3,
                                        .packing = Packing::kNibblePairs};

// compressed-tensors'.
inline constexpr Coding kReciprocalCoding{.element = Element::kE2M1,
                                          .sharing = Sharing::kGroup,
                                          .group = 16,
                                          .rule = ScaleRule::kTwoLevelReciprocal,
                                          .bound = 6,
                                          .scale_dtype = DType::kF8E4M3,
                                          .packing = Packing::kNibblePairs};

// The first three of weights alone; the last where columns were scaled.
inline constexpr std::array kModelOptTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kU8, .shape = HalfColumns},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .dtype = DType::kF8E4M3, .shape = PerGroup},
    {.suffix = "weight_scale_2", .role = StoredRole::kTensorScale, .dtype = DType::kF32, .shape = Scalar},
    {.suffix = "input_scale", .role = StoredRole::kInputScale, .dtype = DType::kF32, .shape = Scalar},
    {.suffix = "pre_quant_scale", .role = StoredRole::kPreQuantScale, .model_dtype = true, .shape = PerColumn},
});

}  // namespace slipway::engine::nvfp4
