// NVFP4: E2M1, an E4M3 scale a block of 16, an FP32 scale a weight and its fused siblings.
#include <array>

#include "worker/engine/quantize/formats/nvfp4_layouts.h"
#include "worker/engine/quantize/formats/tables.h"

namespace slipway::engine {
namespace {

constexpr std::array kCompressedTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight_packed", .role = StoredRole::kCodes, .dtype = DType::kU8, .shape = HalfColumns},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .dtype = DType::kF8E4M3, .shape = PerGroup},
    {.suffix = "weight_global_scale", .role = StoredRole::kTensorScale, .dtype = DType::kF32, .shape = One},
    {.suffix = "input_global_scale", .role = StoredRole::kInputScaleReciprocal, .dtype = DType::kF32, .shape = One},
});

constexpr std::array kLayouts = std::to_array<Layout>({
    {.form = ConfigForm::kModelOpt,
     .activations = Activations::kStatic,
     .coding = nvfp4::kModelOptCoding,
     .tensors = std::span(nvfp4::kModelOptTensors).first<4>(),
     .algorithm = "NVFP4",
     .input_bound = nvfp4::kInputBound,
     .loaders = kLoadsServers,
     .expert_loaders = kLoadsServers},
    {.form = ConfigForm::kCompressedTensors,
     .activations = Activations::kStatic,
     .coding = nvfp4::kReciprocalCoding,
     .tensors = kCompressedTensors,
     .algorithm = "nvfp4-pack-quantized",
     .input_bound = nvfp4::kInputBound,
     .loaders = kLoadsServers,
     .expert_loaders = kLoadsVllmAndSglang},
    {.form = ConfigForm::kModelOpt,
     .activations = Activations::kNone,
     .coding = nvfp4::kModelOptCoding,
     .tensors = std::span(nvfp4::kModelOptTensors).first<3>(),
     .algorithm = "W4A16_NVFP4",
     .loaders = kLoadsServers,
     .expert_loaders = kLoadsServers},
    {.form = ConfigForm::kCompressedTensors,
     .activations = Activations::kNone,
     .coding = nvfp4::kReciprocalCoding,
     .tensors = std::span(kCompressedTensors).first<3>(),
     .algorithm = "nvfp4-pack-quantized",
     .loaders = kLoadsAllButTensorRtLlm,
     .expert_loaders = kLoadsVllmAndSglang},
});

}  // namespace

constinit const Format kNvfp4{
    .name = "nvfp4",
    .summary = "NVFP4 E2M1, blocks of 16",
    .layouts = kLayouts,
    .bits = 4.5,
    .column_multiple = 16,
    .shares_tensor_scale = true,
    .error_bound = 0.1,
};

}  // namespace slipway::engine
