// FP8 E4M3, one scale a row; an input has one a token.
#include <array>

#include "worker/engine/quantize/formats/fp8_layouts.h"
#include "worker/engine/quantize/formats/loaders.h"
#include "worker/engine/quantize/formats/shapes.h"
#include "worker/engine/quantize/formats/tables.h"

namespace slipway::engine {
namespace {

constexpr std::array kModelOptTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kF8E4M3, .shape = Matrix},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .dtype = DType::kF32, .shape = PerRow},
});

constexpr std::array kLayouts = std::to_array<Layout>({
    fp8::kRowLayout,
    // vLLM refuses experts.
    {.form = ConfigForm::kModelOpt,
     .activations = Activations::kDynamic,
     .coding = fp8::kRowCoding,
     .tensors = kModelOptTensors,
     .algorithm = "FP8_PER_CHANNEL_PER_TOKEN",
     .input_bound = 448,
     .loaders = kLoadsVllm | kLoadsTensorRtLlm,
     .expert_loaders = 0},
});

}  // namespace

constinit const Format kFp8PerChannel{
    .name = "fp8-per-channel",
    .summary = "FP8 E4M3, one scale a row",
    .layouts = kLayouts,
    .bits = 8,
    .error_bound = 0.028,
};

}  // namespace slipway::engine
