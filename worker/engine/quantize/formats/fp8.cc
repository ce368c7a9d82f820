// FP8 E4M3, one scale a weight.
#include <array>

#include "worker/engine/quantize/formats/fp8_layouts.h"
#include "worker/engine/quantize/formats/loaders.h"
#include "worker/engine/quantize/formats/shapes.h"
#include "worker/engine/quantize/formats/tables.h"

namespace slipway::engine {
namespace {

// ModelOpt's names, which quant_method "fp8" has, too.
constexpr std::array kStatic = std::to_array<LayoutTensor>({
    {.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kF8E4M3, .shape = Matrix},
    {.suffix = "weight_scale", .role = StoredRole::kTensorScale, .dtype = DType::kF32, .shape = Scalar},
    {.suffix = "input_scale", .role = StoredRole::kInputScale, .dtype = DType::kF32, .shape = Scalar},
});
constexpr std::span kDynamic = std::span(kStatic).first<2>();

constexpr std::array kCompressedStatic = std::to_array<LayoutTensor>({
    {.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kF8E4M3, .shape = Matrix},
    {.suffix = "weight_scale", .role = StoredRole::kTensorScale, .model_dtype = true, .shape = One},
    {.suffix = "input_scale", .role = StoredRole::kInputScale, .model_dtype = true, .shape = One},
});
constexpr std::span kCompressedDynamic = std::span(kCompressedStatic).first<2>();

constexpr std::array kLayouts = std::to_array<Layout>({
    {.form = ConfigForm::kModelOpt,
     .activations = Activations::kStatic,
     .coding = fp8::kTensorCoding,
     .tensors = kStatic,
     .algorithm = "FP8",
     .input_bound = 448,
     .loaders = kLoadsServers,
     .expert_loaders = kLoadsServers},
    {.form = ConfigForm::kCompressedTensors,
     .activations = Activations::kStatic,
     .coding = fp8::kTensorCoding,
     .tensors = kCompressedStatic,
     .algorithm = "float-quantized",
     .input_bound = 448,
     .loaders = kLoadsAllButTensorRtLlm,
     .expert_loaders = kLoadsVllmAndSglang},
    {.form = ConfigForm::kNative,
     .activations = Activations::kStatic,
     .coding = fp8::kTensorCoding,
     .tensors = kStatic,
     .algorithm = "fp8",
     .input_bound = 448,
     .loaders = kLoadsServers,
     .expert_loaders = kLoadsVllmAndSglang},
    // Experts with a scale a weight must have static activations in vLLM.
    {.form = ConfigForm::kCompressedTensors,
     .activations = Activations::kDynamic,
     .coding = fp8::kTensorCoding,
     .tensors = kCompressedDynamic,
     .algorithm = "float-quantized",
     .input_bound = 448,
     .loaders = kLoadsAllButTensorRtLlm,
     .expert_loaders = 0},
    {.form = ConfigForm::kNative,
     .activations = Activations::kDynamic,
     .coding = fp8::kTensorCoding,
     .tensors = kDynamic,
     .algorithm = "fp8",
     .input_bound = 448,
     .loaders = kLoadsVllmAndSglang,
     .expert_loaders = kLoadsVllmAndSglang},
});

}  // namespace

constinit const Format kFp8{
    .name = "fp8",
    .summary = "FP8 E4M3, one scale a tensor",
    .layouts = kLayouts,
    .bits = 8,
    .error_bound = 0.028,
};

}  // namespace slipway::engine
