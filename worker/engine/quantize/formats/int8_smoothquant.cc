// INT8 weights and inputs, with outliers of inputs moved into the weights.
#include <array>

#include "worker/engine/quantize/formats/loaders.h"
#include "worker/engine/quantize/formats/shapes.h"
#include "worker/engine/quantize/formats/tables.h"

namespace slipway::engine {
namespace {

constexpr Coding kModelOptCoding{
    .element = Element::kInt8, .sharing = Sharing::kRow, .bound = 127, .scale_dtype = DType::kF32};
constexpr Coding kCompressedCoding{
    .element = Element::kInt8, .sharing = Sharing::kRow, .bound = 127.5, .scale_dtype = DType::kBF16};

constexpr std::array kModelOptTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kI8, .shape = Matrix},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .dtype = DType::kF32, .shape = PerRow},
    {.suffix = "input_scale", .role = StoredRole::kInputScale, .dtype = DType::kF32, .shape = Scalar},
    {.suffix = "pre_quant_scale", .role = StoredRole::kPreQuantScale, .model_dtype = true, .shape = PerColumn},
});
constexpr std::array kCompressedTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kI8, .shape = Matrix},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .model_dtype = true, .shape = PerRowColumn},
    {.suffix = "input_scale", .role = StoredRole::kInputScale, .model_dtype = true, .shape = One},
});

constexpr std::array kLayouts = std::to_array<Layout>({
    {.form = ConfigForm::kCompressedTensors,
     .activations = Activations::kDynamic,
     .coding = kCompressedCoding,
     .tensors = std::span(kCompressedTensors).first<2>(),
     .algorithm = "int-quantized",
     .input_bound = 127.5,
     .loaders = kLoadsAllButTensorRtLlm,
     .expert_loaders = kLoadsVllm},
    {.form = ConfigForm::kCompressedTensors,
     .activations = Activations::kStatic,
     .coding = kCompressedCoding,
     .tensors = kCompressedTensors,
     .algorithm = "int-quantized",
     .input_bound = 127.5,
     .loaders = kLoadsAllButTensorRtLlm,
     .expert_loaders = 0},
    {.form = ConfigForm::kModelOpt,
     .activations = Activations::kStatic,
     .coding = kModelOptCoding,
     .tensors = kModelOptTensors,
     .algorithm = "W8A8_SQ_PER_CHANNEL",
     .input_bound = 127,
     .loaders = kLoadsTensorRtLlm,
     .expert_loaders = 0},
});

}  // namespace

constinit const Format kInt8SmoothQuant{
    .name = "int8-smoothquant",
    .summary = "INT8 with smoothed activations",
    .layouts = kLayouts,
    .bits = 8,
    .needs_calibration = true,
    .error_bound = 0.012,
};

}  // namespace slipway::engine
