// MXFP4: E2M1, an E8M0 scale a block of 32.
#include <array>

#include "worker/engine/quantize/formats/loaders.h"
#include "worker/engine/quantize/formats/mxfp4_layouts.h"
#include "worker/engine/quantize/formats/shapes.h"
#include "worker/engine/quantize/formats/tables.h"

namespace slipway::engine {
namespace {

constexpr Coding kCoding{.element = Element::kE2M1,
                         .sharing = Sharing::kGroup,
                         .group = 32,
                         .rule = ScaleRule::kPowerOfTwo,
                         .bound = 6,
                         .scale_dtype = DType::kU8,
                         .packing = Packing::kNibblePairs};

constexpr std::array kModelOptTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kU8, .shape = HalfColumns},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .dtype = DType::kU8, .shape = PerGroup},
});
// mlp.experts.gate_up_proj_blocks, with rows of gate and up in turn.
constexpr std::array kExpertsTensors = std::to_array<LayoutTensor>({
    {.suffix = "blocks", .role = StoredRole::kCodes, .dtype = DType::kU8, .shape = BlocksOfBytes},
    {.suffix = "scales", .role = StoredRole::kScales, .dtype = DType::kU8, .shape = PerGroup},
});

constexpr std::array kLayouts = std::to_array<Layout>({
    mxfp4::kWeightsLayout,
    mxfp4::kDynamicLayout,
    // Served by nothing: vLLM refuses the name, SGLang and TensorRT-LLM do not know it.
    {.form = ConfigForm::kModelOpt,
     .activations = Activations::kDynamic,
     .coding = kCoding,
     .tensors = kModelOptTensors,
     .algorithm = "mxfp4",
     .input_bound = 6,
     .loaders = 0,
     .expert_loaders = 0},
    {.form = ConfigForm::kNative,
     .activations = Activations::kNone,
     .coding = kCoding,
     .tensors = kExpertsTensors,
     .algorithm = "mxfp4",
     .loaders = 0,
     .expert_loaders = kLoadsAll,
     .stacked_experts = true},
});

}  // namespace

constinit const Format kMxfp4{
    .name = "mxfp4",
    .summary = "MXFP4 E2M1, blocks of 32",
    .layouts = kLayouts,
    .bits = 4.25,
    .column_multiple = 32,
    .error_bound = 0.13,
};

}  // namespace slipway::engine
