// INT4 weights in groups of a row, FP8 inputs.
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

constexpr std::array kModelOptTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kU8, .shape = HalfRows},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .dtype = DType::kF32, .shape = PerGroup},
    {.suffix = "weight_scale_2", .role = StoredRole::kFloat8Scale, .dtype = DType::kF32, .shape = Scalar},
    {.suffix = "input_scale", .role = StoredRole::kInputScale, .dtype = DType::kF32, .shape = Scalar},
    {.suffix = "pre_quant_scale", .role = StoredRole::kPreQuantScale, .model_dtype = true, .shape = PerColumn},
});
constexpr std::array kCompressedTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight_packed", .role = StoredRole::kCodes, .dtype = DType::kI32, .shape = WordsOfRows},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .model_dtype = true, .shape = PerGroup},
    {.suffix = "weight_shape", .role = StoredRole::kShape, .dtype = DType::kI64, .shape = Two},
});

constexpr std::array kLayouts = std::to_array<Layout>({
    {.form = ConfigForm::kModelOpt,
     .activations = Activations::kStatic,
     .coding = kModelOptCoding,
     .tensors = kModelOptTensors,
     .algorithm = "W4A8_AWQ",
     .input_bound = 448,
     .loaders = kLoadsTensorRtLlm,
     .expert_loaders = 0},
    {.form = ConfigForm::kCompressedTensors,
     .activations = Activations::kDynamic,
     .coding = kCompressedCoding,
     .tensors = kCompressedTensors,
     .algorithm = "pack-quantized",
     .input_bound = 448,
     .loaders = kLoadsVllm,
     .expert_loaders = kLoadsVllmAndSglang},
});

}  // namespace

constinit const Format kW4A8Awq{
    .name = "w4a8-awq",
    .summary = "INT4 weights, FP8 activations",
    .layouts = kLayouts,
    .bits = 4.125,
    .shares_tensor_scale = true,
    .needs_calibration = true,
    .error_bound = 0.125,
};

}  // namespace slipway::engine
