// INT8, one scale a row: weights alone by default.
#include <array>

#include "worker/engine/quantize/formats/loaders.h"
#include "worker/engine/quantize/formats/shapes.h"
#include "worker/engine/quantize/formats/tables.h"

namespace slipway::engine {
namespace {

constexpr Coding kModelOptCoding{
    .element = Element::kInt8, .sharing = Sharing::kRow, .bound = 127, .scale_dtype = DType::kF32};
constexpr Coding kPackedCoding{.element = Element::kInt8,
                               .sharing = Sharing::kRow,
                               .bound = 127.5,
                               .scale_dtype = DType::kBF16,
                               .packing = Packing::kWords};
constexpr Coding kBytesCoding{
    .element = Element::kInt8, .sharing = Sharing::kRow, .bound = 127.5, .scale_dtype = DType::kBF16};

constexpr std::array kModelOptTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kI8, .shape = Matrix},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .dtype = DType::kF32, .shape = PerRow},
    {.suffix = "input_scale", .role = StoredRole::kInputScale, .dtype = DType::kF32, .shape = Scalar},
});
constexpr std::array kPackedTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight_packed", .role = StoredRole::kCodes, .dtype = DType::kI32, .shape = WordsOfRows},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .model_dtype = true, .shape = PerRowColumn},
    {.suffix = "weight_shape", .role = StoredRole::kShape, .dtype = DType::kI64, .shape = Two},
});
constexpr std::array kBytesTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kI8, .shape = Matrix},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .model_dtype = true, .shape = PerRowColumn},
    {.suffix = "input_scale", .role = StoredRole::kInputScale, .model_dtype = true, .shape = One},
});

constexpr std::array kLayouts = std::to_array<Layout>({
    {.form = ConfigForm::kCompressedTensors,
     .activations = Activations::kNone,
     .coding = kPackedCoding,
     .tensors = kPackedTensors,
     .algorithm = "pack-quantized",
     .loaders = kLoadsAllButTensorRtLlm,
     .expert_loaders = kLoadsVllmAndSglang},
    {.form = ConfigForm::kModelOpt,
     .activations = Activations::kNone,
     .coding = kModelOptCoding,
     .tensors = std::span(kModelOptTensors).first<2>(),
     .algorithm = "W8A16",
     .loaders = kLoadsTensorRtLlm,
     .expert_loaders = 0},
    {.form = ConfigForm::kCompressedTensors,
     .activations = Activations::kDynamic,
     .coding = kBytesCoding,
     .tensors = std::span(kBytesTensors).first<2>(),
     .algorithm = "int-quantized",
     .input_bound = 127.5,
     .loaders = kLoadsAllButTensorRtLlm,
     .expert_loaders = kLoadsVllm},
    // vLLM takes experts with dynamic activations only.
    {.form = ConfigForm::kCompressedTensors,
     .activations = Activations::kStatic,
     .coding = kBytesCoding,
     .tensors = kBytesTensors,
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

constinit const Format kInt8{
    .name = "int8",
    .summary = "INT8, one scale a row",
    .layouts = kLayouts,
    .bits = 8,
    .error_bound = 0.012,
};

}  // namespace slipway::engine
