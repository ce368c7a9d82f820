// What the formats of INT8 with one scale a row have in common.
#pragma once

#include <array>
#include <span>

#include "worker/engine/quantize/formats/loaders.h"
#include "worker/engine/quantize/formats/shapes.h"

namespace slipway::engine::int8 {

inline constexpr Coding kModelOptCoding{
    .element = Element::kInt8, .sharing = Sharing::kRow, .bound = 127, .scale_dtype = DType::kF32};
inline constexpr Coding kBytesCoding{
    .element = Element::kInt8, .sharing = Sharing::kRow, .bound = 127.5, .scale_dtype = DType::kBF16};

// ModelOpt's; the last is of SmoothQuant alone.
inline constexpr std::array kModelOptTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kI8, .shape = Matrix},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .dtype = DType::kF32, .shape = PerRow},
    {.suffix = "input_scale", .role = StoredRole::kInputScale, .dtype = DType::kF32, .shape = Scalar},
    {.suffix = "pre_quant_scale", .role = StoredRole::kPreQuantScale, .model_dtype = true, .shape = PerColumn},
});
inline constexpr std::array kBytesTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kI8, .shape = Matrix},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .model_dtype = true, .shape = PerRowColumn},
    {.suffix = "input_scale", .role = StoredRole::kInputScale, .model_dtype = true, .shape = One},
});

inline constexpr Coding kPackedCoding{.element = Element::kInt8,
                                      .sharing = Sharing::kRow,
                                      .bound = 127.5,
                                      .scale_dtype = DType::kBF16,
                                      .packing = Packing::kWords};
inline constexpr std::array kPackedTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight_packed", .role = StoredRole::kCodes, .dtype = DType::kI32, .shape = WordsOfRows},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .model_dtype = true, .shape = PerRowColumn},
    {.suffix = "weight_shape", .role = StoredRole::kShape, .dtype = DType::kI64, .shape = Two},
});

inline constexpr Layout kPackedLayout{.form = ConfigForm::kCompressedTensors,
                                      .activations = Activations::kNone,
                                      .coding = kPackedCoding,
                                      .tensors = kPackedTensors,
                                      .algorithm = "pack-quantized",
                                      .loaders = kLoadsAllButTensorRtLlm,
                                      .expert_loaders = kLoadsVllmAndSglang};
inline constexpr Layout kDynamicLayout{.form = ConfigForm::kCompressedTensors,
                                       .activations = Activations::kDynamic,
                                       .coding = kBytesCoding,
                                       .tensors = std::span(kBytesTensors).first<2>(),
                                       .algorithm = "int-quantized",
                                       .input_bound = 127.5,
                                       .loaders = kLoadsAllButTensorRtLlm,
                                       .expert_loaders = kLoadsVllm};
// vLLM takes experts with dynamic activations only.
inline constexpr Layout kStaticLayout{.form = ConfigForm::kCompressedTensors,
                                      .activations = Activations::kStatic,
                                      .coding = kBytesCoding,
                                      .tensors = kBytesTensors,
                                      .algorithm = "int-quantized",
                                      .input_bound = 127.5,
                                      .loaders = kLoadsAllButTensorRtLlm,
                                      .expert_loaders = 0};

// With what of kModelOptTensors the format stores.
constexpr Layout ModelOptLayout(std::span<const LayoutTensor> tensors) {
  return {.form = ConfigForm::kModelOpt,
          .activations = Activations::kStatic,
          .coding = kModelOptCoding,
          .tensors = tensors,
          .algorithm = "W8A8_SQ_PER_CHANNEL",
          .input_bound = 127,
          .loaders = kLoadsTensorRtLlm,
          .expert_loaders = 0};
}

}  // namespace slipway::engine::int8
