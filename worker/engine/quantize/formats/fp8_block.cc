// FP8 E4M3, a scale a block of 128 x 128, as DeepSeek-V3 has them.
#include <array>

#include "worker/engine/quantize/formats/fp8_layouts.h"
#include "worker/engine/quantize/formats/loaders.h"
#include "worker/engine/quantize/formats/shapes.h"
#include "worker/engine/quantize/formats/tables.h"

namespace slipway::engine {
namespace {

constexpr std::array kNativeTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kF8E4M3, .shape = Matrix},
    // A factor, whatever its name says.
    {.suffix = "weight_scale_inv", .role = StoredRole::kScales, .dtype = DType::kF32, .shape = PerSquare},
});
constexpr std::array kModelOptTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kF8E4M3, .shape = Matrix},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .dtype = DType::kF32, .shape = PerSquareInFour},
});

constexpr std::array kLayouts = std::to_array<Layout>({
    {.form = ConfigForm::kNative,
     .activations = Activations::kDynamic,
     .coding = fp8::kBlockCoding,
     .tensors = kNativeTensors,
     .algorithm = "fp8",
     .input_bound = 448,
     .loaders = kLoadsAll,
     .expert_loaders = kLoadsAll},
    fp8::kBlockLayout,
    // ModelOpt calls it weight-only; engines quantize inputs all the same.
    {.form = ConfigForm::kModelOpt,
     .activations = Activations::kDynamic,
     .coding = fp8::kBlockCoding,
     .tensors = kModelOptTensors,
     .algorithm = "fp8_pb_wo",
     .input_bound = 448,
     .loaders = kLoadsVllm | kLoadsTensorRtLlm,
     .expert_loaders = 0},
});

}  // namespace

constinit const Format kFp8Block{
    .name = "fp8-block",
    .summary = "FP8 E4M3, blocks of 128 x 128",
    .layouts = kLayouts,
    .bits = 8.002,
    .error_bound = 0.028,
};

}  // namespace slipway::engine
