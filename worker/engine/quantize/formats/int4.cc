// INT4 in groups of a row; weights alone, or with INT8 inputs.
#include <array>

#include "worker/engine/quantize/formats/int4_layouts.h"
#include "worker/engine/quantize/formats/tables.h"

namespace slipway::engine {
namespace {

constexpr Coding kBytesCoding{.element = Element::kInt4,
                              .sharing = Sharing::kGroup,
                              .group = 128,
                              .bound = 7.5,
                              .scale_dtype = DType::kBF16,
                              .packing = Packing::kBytes};

constexpr std::array kModelOptTensors = {int4::kModelOptCodes, int4::kModelOptScales};
constexpr std::array kBytesTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kI8, .shape = Matrix},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .model_dtype = true, .shape = PerGroup},
});

constexpr std::array kLayouts = std::to_array<Layout>({
    int4::kCompressedLayout,
    int4::kCompressedRangeLayout,
    int4::kAwqRangeLayout,
    int4::kAwqLayout,
    // TensorRT-LLM wants the pre_quant_scale that only calibration makes (int4-awq).
    {.form = ConfigForm::kModelOpt,
     .activations = Activations::kNone,
     .coding = int4::kModelOptCoding,
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

}  // namespace

constinit const Format kInt4{
    .name = "int4",
    .summary = "INT4, groups of 128",
    .layouts = kLayouts,
    .bits = 4.125,
    .groups = int4::kGroups,
    .error_bound = 0.125,
};

}  // namespace slipway::engine
