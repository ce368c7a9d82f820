// MXFP8: E4M3, an E8M0 scale a block of 32; inputs likewise.
#include <array>

#include "worker/engine/quantize/formats/loaders.h"
#include "worker/engine/quantize/formats/mxfp8_layouts.h"
#include "worker/engine/quantize/formats/shapes.h"
#include "worker/engine/quantize/formats/tables.h"

namespace slipway::engine {
namespace {

constexpr Coding kCoding{.element = Element::kE4M3,
                         .sharing = Sharing::kGroup,
                         .group = 32,
                         .rule = ScaleRule::kPowerOfTwo,
                         .bound = 448,
                         .scale_dtype = DType::kU8};

constexpr std::array kNativeTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kF8E4M3, .shape = Matrix},
    {.suffix = "weight_scale_inv", .role = StoredRole::kScales, .dtype = DType::kU8, .shape = PerGroup},
});

constexpr std::array kLayouts = std::to_array<Layout>({
    {.form = ConfigForm::kModelOpt,
     .activations = Activations::kDynamic,
     .coding = kCoding,
     .tensors = mxfp8::kTensors,
     .algorithm = "MXFP8",
     .input_bound = 448,
     .loaders = kLoadsServers,
     .expert_loaders = kLoadsServers},
    mxfp8::kCompressedLayout,
    {.form = ConfigForm::kNative,
     .activations = Activations::kDynamic,
     .coding = kCoding,
     .tensors = kNativeTensors,
     .algorithm = "mxfp8",
     .input_bound = 448,
     .loaders = kLoadsSglang | kLoadsTensorRtLlm | kLoadsTransformers,
     .expert_loaders = kLoadsSglang | kLoadsTensorRtLlm},
});

}  // namespace

constinit const Format kMxfp8{
    .name = "mxfp8",
    .summary = "MXFP8 E4M3, blocks of 32",
    .layouts = kLayouts,
    .bits = 8.25,
    .column_multiple = 32,
    .error_bound = 0.028,
};

}  // namespace slipway::engine
