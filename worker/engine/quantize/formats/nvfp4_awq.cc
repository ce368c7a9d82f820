// NVFP4 with columns scaled by how much inputs use them.
#include <array>

#include "worker/engine/quantize/formats/loaders.h"
#include "worker/engine/quantize/formats/shapes.h"
#include "worker/engine/quantize/formats/tables.h"

namespace slipway::engine {
namespace {

constexpr Coding kCoding{.element = Element::kE2M1,
                         .sharing = Sharing::kGroup,
                         .group = 16,
                         .rule = ScaleRule::kTwoLevel,
                         .bound = 6,
                         .scale_dtype = DType::kF8E4M3,
                         .packing = Packing::kNibblePairs};

constexpr std::array kTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kU8, .shape = HalfColumns},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .dtype = DType::kF8E4M3, .shape = PerGroup},
    {.suffix = "weight_scale_2", .role = StoredRole::kTensorScale, .dtype = DType::kF32, .shape = Scalar},
    {.suffix = "input_scale", .role = StoredRole::kInputScale, .dtype = DType::kF32, .shape = Scalar},
    {.suffix = "pre_quant_scale", .role = StoredRole::kPreQuantScale, .model_dtype = true, .shape = PerColumn},
});

constexpr std::array kLayouts = std::to_array<Layout>({
    {.form = ConfigForm::kModelOpt,
     .activations = Activations::kStatic,
     .coding = kCoding,
     .tensors = kTensors,
     .algorithm = "NVFP4_AWQ",
     .input_bound = 6 * 448,
     .loaders = kLoadsSglang | kLoadsTensorRtLlm,
     .expert_loaders = 0},
});

}  // namespace

constinit const Format kNvfp4Awq{
    .name = "nvfp4-awq",
    .summary = "NVFP4 with activation-aware scales",
    .layouts = kLayouts,
    .bits = 4.5,
    .column_multiple = 16,
    .shares_tensor_scale = true,
    .needs_calibration = true,
    .error_bound = 0.1,
};

}  // namespace slipway::engine
