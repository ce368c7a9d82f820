// The formats of TensorRT-LLM's checkpoints, one row each. Scales of one matrix are [1], those of experts [E, 1]: the
// plan puts the experts before every shape but that of an input's scale. Logical layouts all: the engine's builder
// transposes and interleaves.
#include <array>

#include "worker/engine/quantize/formats/fp8_layouts.h"
#include "worker/engine/quantize/formats/int4_layouts.h"
#include "worker/engine/quantize/formats/int8_layouts.h"
#include "worker/engine/quantize/formats/nvfp4_layouts.h"
#include "worker/engine/quantize/formats/shapes.h"
#include "worker/engine/quantize/formats/tables.h"
#include "worker/engine/target/tensorrt_llm/quantization.h"

namespace slipway::engine::tensorrt_llm {
namespace {

constexpr LayoutTensor kFp8Codes{
    .suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kF8E4M3, .shape = Matrix};
constexpr LayoutTensor kInt8Codes{.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kI8, .shape = Matrix};
constexpr LayoutTensor kInt4Codes{
    .suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kI8, .shape = HalfRows};
constexpr LayoutTensor kGroupScales{
    .suffix = "weights_scaling_factor", .role = StoredRole::kScales, .dtype = DType::kF32, .shape = PerGroup};
constexpr LayoutTensor kInputScale{
    .suffix = "activation_scaling_factor", .role = StoredRole::kInputScale, .dtype = DType::kF32, .shape = One};
constexpr LayoutTensor kPreQuantScale{
    .suffix = "prequant_scaling_factor", .role = StoredRole::kPreQuantScale, .model_dtype = true, .shape = PerColumn};

constexpr std::array kFp8Tensors = std::to_array<LayoutTensor>({
    kFp8Codes,
    {.suffix = "weights_scaling_factor", .role = StoredRole::kTensorScale, .dtype = DType::kF32, .shape = One},
    kInputScale,
});
constexpr std::array kFp8RowTensors = std::to_array<LayoutTensor>({
    kFp8Codes,
    {.suffix = "per_channel_scale", .role = StoredRole::kScales, .dtype = DType::kF32, .shape = PerRow},
});
constexpr std::array kSmoothQuantTensors = std::to_array<LayoutTensor>({
    kInt8Codes,
    {.suffix = "weights_scaling_factor", .role = StoredRole::kScales, .dtype = DType::kF32, .shape = PerRow},
    kInputScale,
    kPreQuantScale,
});
constexpr std::array kAwqTensors = {kInt4Codes, kGroupScales, kPreQuantScale};
constexpr std::array kAwqFp8Tensors = std::to_array<LayoutTensor>({
    kInt4Codes,
    kGroupScales,
    {.suffix = "weights_scaling_factor_2", .role = StoredRole::kFloat8Scale, .dtype = DType::kF32, .shape = One},
    kInputScale,
    kPreQuantScale,
});
// Of experts the second scale is [E], as the product that the builder makes of it.
constexpr std::array kNvfp4Tensors = std::to_array<LayoutTensor>({
    {.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kU8, .shape = HalfColumns},
    {.suffix = "weights_scaling_factor", .role = StoredRole::kScales, .dtype = DType::kF8E4M3, .shape = PerGroup},
    {.suffix = "weights_scaling_factor_2", .role = StoredRole::kTensorScale, .dtype = DType::kF32, .shape = Scalar},
    {.suffix = "activation_scaling_factor", .role = StoredRole::kInputScale, .dtype = DType::kF32, .shape = Scalar},
});

constexpr std::array<std::int32_t, 2> kAwqGroups = {128, 64};
constexpr std::array<std::int32_t, 1> kAwqFp8Groups = {128};

constexpr Layout LayoutOf(std::string_view algorithm, Activations activations, const Coding& coding,
                          std::span<const LayoutTensor> tensors, float input_bound = 0) {
  return {.form = ConfigForm::kTensorRtLlm,
          .activations = activations,
          .coding = coding,
          .tensors = tensors,
          .algorithm = algorithm,
          .input_bound = input_bound,
          .loaders = kLoadsTensorRtLlm,
          .expert_loaders = kLoadsTensorRtLlm};
}

constexpr std::array kFormats = std::to_array<RankFormat>({
    {.format = &kFp8, .layout = LayoutOf("FP8", Activations::kStatic, fp8::kTensorCoding, kFp8Tensors, 448)},
    {.format = &kFp8PerChannel,
     .layout = LayoutOf("FP8_PER_CHANNEL_PER_TOKEN", Activations::kDynamic, fp8::kRowCoding, kFp8RowTensors, 448),
     .takes_experts = false},
    // Codes in files would have to lie as one GPU's kernels want them: the builder makes them of values.
    {.format = &kInt8, .layout = LayoutOf("W8A16", Activations::kNone, int8::kModelOptCoding, {})},
    {.format = &kInt4, .layout = LayoutOf("W4A16", Activations::kNone, int4::kModelOptCoding, {})},
    {.format = &kInt8SmoothQuant,
     .layout = LayoutOf("W8A8_SQ_PER_CHANNEL", Activations::kStatic, int8::kModelOptCoding, kSmoothQuantTensors, 127),
     .takes_experts = false},
    {.format = &kInt4Awq,
     .layout = LayoutOf("W4A16_AWQ", Activations::kNone, int4::kModelOptCoding, kAwqTensors),
     .groups = kAwqGroups},
    {.format = &kW4A8Awq,
     .layout = LayoutOf("W4A8_AWQ", Activations::kStatic, int4::kModelOptCoding, kAwqFp8Tensors, 448),
     .groups = kAwqFp8Groups,
     .takes_experts = false},
    {.format = &kNvfp4,
     .layout = LayoutOf("NVFP4", Activations::kStatic, nvfp4::kModelOptCoding, kNvfp4Tensors, nvfp4::kInputBound)},
});

}  // namespace

std::span<const RankFormat> QuantizedFormats() { return kFormats; }

}  // namespace slipway::engine::tensorrt_llm
