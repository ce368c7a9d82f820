// INT4 in groups of a row; weights alone, or with INT8 inputs.
#include <array>

#include "worker/engine/quantize/formats/loaders.h"
#include "worker/engine/quantize/formats/shapes.h"
#include "worker/engine/quantize/formats/tables.h"

namespace slipway::engine {
namespace {

constexpr Coding kModelOptCoding{.element = Element::kInt4,
                                 .sharing = Sharing::kGroup,
                                 .group = 128,
                                 .bound = 7,
                                 .scale_dtype = DType::kF32,
                                 .packing = Packing::kNibbleRows};
constexpr Coding kCompressedCoding{.element = Element::kInt4,
                                   .sharing = Sharing::kGroup,
                                   .group = 128,
                                   .bound = 7.5,
                                   .scale_dtype = DType::kBF16,
                                   .packing = Packing::kWords};
constexpr Coding kBytesCoding{.element = Element::kInt4,
                              .sharing = Sharing::kGroup,
                              .group = 128,
                              .bound = 7.5,
                              .scale_dtype = DType::kBF16,
                              .packing = Packing::kBytes};
// Readers take any scale; 7.5 uses all sixteen codes and has the smaller error.
constexpr Coding kAwqCoding{.element = Element::kInt4,
                            .sharing = Sharing::kGroup,
                            .group = 128,
                            .bound = 7.5,
                            .scale_dtype = DType::kF16,
                            .packing = Packing::kWordsColumns};

constexpr std::array kModelOptTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kU8, .shape = HalfRows},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .dtype = DType::kF32, .shape = PerGroup},
});
constexpr std::array kCompressedTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight_packed", .role = StoredRole::kCodes, .dtype = DType::kI32, .shape = WordsOfRows},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .model_dtype = true, .shape = PerGroup},
    {.suffix = "weight_shape", .role = StoredRole::kShape, .dtype = DType::kI64, .shape = Two},
});
constexpr std::array kBytesTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kI8, .shape = Matrix},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .model_dtype = true, .shape = PerGroup},
});
constexpr std::array kAwqTensors = std::to_array<LayoutTensor>({
    {.suffix = "qweight", .role = StoredRole::kCodes, .dtype = DType::kI32, .shape = AwqWords},
    {.suffix = "qzeros", .role = StoredRole::kZeroPoints, .dtype = DType::kI32, .word = 0x88888888, .shape = ZeroWords},
    {.suffix = "scales", .role = StoredRole::kScales, .dtype = DType::kF16, .shape = PerGroupTransposed},
});

constexpr std::array kLayouts = std::to_array<Layout>({
    {.form = ConfigForm::kCompressedTensors,
     .activations = Activations::kNone,
     .coding = kCompressedCoding,
     .tensors = kCompressedTensors,
     .algorithm = "pack-quantized",
     .loaders = kLoadsAllButTensorRtLlm,
     .expert_loaders = kLoadsVllmAndSglang},
    {.form = ConfigForm::kNative,
     .activations = Activations::kNone,
     .coding = kAwqCoding,
     .tensors = kAwqTensors,
     .algorithm = "awq",
     .loaders = kLoadsVllmAndSglang,
     .expert_loaders = kLoadsVllmAndSglang},
    // TensorRT-LLM wants the pre_quant_scale that only calibration makes (int4-awq).
    {.form = ConfigForm::kModelOpt,
     .activations = Activations::kNone,
     .coding = kModelOptCoding,
     .tensors = kModelOptTensors,
     .algorithm = "W4A16_AWQ",
     .loaders = 0,
     .expert_loaders = 0},
    {.form = ConfigForm::kCompressedTensors,
     .activations = Activations::kDynamic,
     .coding = kBytesCoding,
     .tensors = kBytesTensors,
     .algorithm = "int-quantized",
     .input_bound = 127.5,
     .loaders = kLoadsAllButTensorRtLlm,
     .expert_loaders = 0},
});

constexpr std::array<std::int32_t, 3> kGroups = {128, 64, 32};

}  // namespace

constinit const Format kInt4{
    .name = "int4",
    .summary = "INT4, groups of 128",
    .layouts = kLayouts,
    .bits = 4.125,
    .groups = kGroups,
    .error_bound = 0.125,
};

}  // namespace slipway::engine
