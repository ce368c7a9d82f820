// What the formats of INT4 in groups of a row have in common: codings, stored tensors and layouts.
#pragma once

#include <array>
#include <cstdint>

#include "worker/engine/quantize/formats/loaders.h"
#include "worker/engine/quantize/formats/shapes.h"

namespace slipway::engine::int4 {

inline constexpr std::array<std::int32_t, 3> kGroups = {128, 64, 32};

inline constexpr Coding kModelOptCoding{.element = Element::kInt4,
                                        .sharing = Sharing::kGroup,
                                        .group = 128,
                                        .bound = 7,
                                        .scale_dtype = DType::kF32,
                                        .packing = Packing::kNibbleRows};
inline constexpr Coding kCompressedCoding{.element = Element::kInt4,
                                          .sharing = Sharing::kGroup,
                                          .group = 128,
                                          .bound = 7.5,
                                          .scale_dtype = DType::kBF16,
                                          .packing = Packing::kWords};
// Readers take any scale; 7.5 uses all sixteen codes and has the smaller error.
inline constexpr Coding kAwqCoding{.element = Element::kInt4,
                                   .sharing = Sharing::kGroup,
                                   .group = 128,
                                   .bound = 7.5,
                                   .scale_dtype = DType::kF16,
                                   .packing = Packing::kWordsColumns};

// With zero points, computed as compressed-tensors and AutoAWQ do.
inline constexpr Coding kCompressedRangeCoding{.element = Element::kInt4,
                                               .sharing = Sharing::kGroup,
                                               .group = 128,
                                               .rule = ScaleRule::kRangeRounded,
                                               .bound = 15,
                                               .scale_dtype = DType::kBF16,
                                               .packing = Packing::kWords};
inline constexpr Coding kAwqRangeCoding{.element = Element::kInt4,
                                        .sharing = Sharing::kGroup,
                                        .group = 128,
                                        .rule = ScaleRule::kRange,
                                        .bound = 15,
                                        .scale_dtype = DType::kF16,
                                        .packing = Packing::kWordsColumns};

inline constexpr LayoutTensor kModelOptCodes{
    .suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kU8, .shape = HalfRows};
inline constexpr LayoutTensor kModelOptScales{
    .suffix = "weight_scale", .role = StoredRole::kScales, .dtype = DType::kF32, .shape = PerGroup};

inline constexpr std::array kCompressedTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight_packed", .role = StoredRole::kCodes, .dtype = DType::kI32, .shape = WordsOfRows},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .model_dtype = true, .shape = PerGroup},
    {.suffix = "weight_shape", .role = StoredRole::kShape, .dtype = DType::kI64, .shape = Two},
});
inline constexpr std::array kAwqTensors = std::to_array<LayoutTensor>({
    {.suffix = "qweight", .role = StoredRole::kCodes, .dtype = DType::kI32, .shape = AwqWords},
    {.suffix = "qzeros",
     .role = StoredRole::kConstantZeroPoints,
     .dtype = DType::kI32,
     .word = 0x88888888,
     .shape = ZeroWords},
    {.suffix = "scales", .role = StoredRole::kScales, .dtype = DType::kF16, .shape = PerGroupTransposed},
});
inline constexpr std::array kCompressedRangeTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight_packed", .role = StoredRole::kCodes, .dtype = DType::kI32, .shape = WordsOfRows},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .model_dtype = true, .shape = PerGroup},
    {.suffix = "weight_shape", .role = StoredRole::kShape, .dtype = DType::kI64, .shape = Two},
    {.suffix = "weight_zero_point", .role = StoredRole::kZeroPoints, .dtype = DType::kI32, .shape = ZeroWordsOfRows},
});
inline constexpr std::array kAwqRangeTensors = std::to_array<LayoutTensor>({
    {.suffix = "qweight", .role = StoredRole::kCodes, .dtype = DType::kI32, .shape = AwqWords},
    {.suffix = "qzeros", .role = StoredRole::kZeroPoints, .dtype = DType::kI32, .shape = ZeroWords},
    {.suffix = "scales", .role = StoredRole::kScales, .dtype = DType::kF16, .shape = PerGroupTransposed},
});

// Weights alone. Of a form's two layouts the first in a format's table is the one that is taken unless a recipe says
// `symmetric`: compressed-tensors' is without zero points, AutoAWQ's with.
inline constexpr Layout kCompressedLayout{.form = ConfigForm::kCompressedTensors,
                                          .activations = Activations::kNone,
                                          .coding = kCompressedCoding,
                                          .tensors = kCompressedTensors,
                                          .algorithm = "pack-quantized",
                                          .loaders = kLoadsAllButTensorRtLlm,
                                          .expert_loaders = kLoadsVllmAndSglang};
inline constexpr Layout kAwqLayout{.form = ConfigForm::kNative,
                                   .activations = Activations::kNone,
                                   .coding = kAwqCoding,
                                   .tensors = kAwqTensors,
                                   .algorithm = "awq",
                                   .loaders = kLoadsVllmAndSglang,
                                   .expert_loaders = kLoadsVllmAndSglang};
inline constexpr Layout kCompressedRangeLayout{.form = ConfigForm::kCompressedTensors,
                                               .activations = Activations::kNone,
                                               .coding = kCompressedRangeCoding,
                                               .tensors = kCompressedRangeTensors,
                                               .algorithm = "pack-quantized",
                                               .loaders = kLoadsAllButTensorRtLlm,
                                               .expert_loaders = kLoadsVllm};
inline constexpr Layout kAwqRangeLayout{.form = ConfigForm::kNative,
                                        .activations = Activations::kNone,
                                        .coding = kAwqRangeCoding,
                                        .tensors = kAwqRangeTensors,
                                        .algorithm = "awq",
                                        .loaders = kLoadsVllmAndSglang,
                                        .expert_loaders = kLoadsVllmAndSglang};

}  // namespace slipway::engine::int4
