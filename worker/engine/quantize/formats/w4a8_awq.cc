// INT4 weights in groups of a row, FP8 inputs.
#include <array>

#include "worker/engine/quantize/formats/int4_layouts.h"
#include "worker/engine/quantize/formats/tables.h"

namespace slipway::engine {
namespace {

constexpr std::array kModelOptTensors = std::to_array<LayoutTensor>({
    int4::kModelOptCodes,
    int4::kModelOptScales,
    {.suffix = "weight_scale_2", .role = StoredRole::kFloat8Scale, .dtype = DType::kF32, .shape = Scalar},
    {.suffix = "input_scale", .role = StoredRole::kInputScale, .dtype = DType::kF32, .shape = Scalar},
    {.suffix = "pre_quant_scale", .role = StoredRole::kPreQuantScale, .model_dtype = true, .shape = PerColumn},
});

constexpr std::array kLayouts = std::to_array<Layout>({
    {.form = ConfigForm::kModelOpt,
     .activations = Activations::kStatic,
     .coding = int4::kModelOptCoding,
     .tensors = kModelOptTensors,
     .algorithm = "W4A8_AWQ",
     .input_bound = 448,
     .loaders = kLoadsTensorRtLlm,
     .expert_loaders = 0},
    {.form = ConfigForm::kCompressedTensors,
     .activations = Activations::kDynamic,
     .coding = int4::kCompressedCoding,
     .tensors = int4::kCompressedTensors,
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
