// INT4 in groups of a row, each rounding error made up for by the columns after it.
#include <array>

#include "worker/engine/quantize/formats/loaders.h"
#include "worker/engine/quantize/formats/shapes.h"
#include "worker/engine/quantize/formats/tables.h"

namespace slipway::engine {
namespace {

constexpr Coding kGptqCoding{.element = Element::kInt4,
                             .sharing = Sharing::kGroup,
                             .group = 128,
                             .bound = 7,
                             .scale_dtype = DType::kF16,
                             .packing = Packing::kWordsRows};
constexpr Coding kCompressedCoding{.element = Element::kInt4,
                                   .sharing = Sharing::kGroup,
                                   .group = 128,
                                   .bound = 7.5,
                                   .scale_dtype = DType::kBF16,
                                   .packing = Packing::kWords};

constexpr std::array kGptqTensors = std::to_array<LayoutTensor>({
    {.suffix = "qweight", .role = StoredRole::kCodes, .dtype = DType::kI32, .shape = GptqWords},
    // The first version of the format stores a zero point less 1.
    {.suffix = "qzeros", .role = StoredRole::kZeroPoints, .dtype = DType::kI32, .word = 0x77777777, .shape = ZeroWords},
    {.suffix = "scales", .role = StoredRole::kScales, .dtype = DType::kF16, .shape = PerGroupTransposed},
    {.suffix = "g_idx", .role = StoredRole::kGroupIndex, .dtype = DType::kI32, .shape = PerColumn},
});
constexpr std::array kCompressedTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight_packed", .role = StoredRole::kCodes, .dtype = DType::kI32, .shape = WordsOfRows},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .model_dtype = true, .shape = PerGroup},
    {.suffix = "weight_shape", .role = StoredRole::kShape, .dtype = DType::kI64, .shape = Two},
});

constexpr std::array kLayouts = std::to_array<Layout>({
    {.form = ConfigForm::kCompressedTensors,
     .activations = Activations::kNone,
     .coding = kCompressedCoding,
     .tensors = kCompressedTensors,
     .algorithm = "pack-quantized",
     .loaders = kLoadsAllButTensorRtLlm,
     .expert_loaders = kLoadsVllmAndSglang},
    {.form = ConfigForm::kNative,
     .activations = Activations::kNone,
     .coding = kGptqCoding,
     .tensors = kGptqTensors,
     .algorithm = "gptq",
     .loaders = kLoadsVllmAndSglang,
     .expert_loaders = kLoadsVllmAndSglang},
});

constexpr std::array<std::int32_t, 3> kGroups = {128, 64, 32};

}  // namespace

constinit const Format kInt4Gptq{
    .name = "int4-gptq",
    .summary = "INT4 with second-order rounding",
    .layouts = kLayouts,
    .bits = 4.125,
    .groups = kGroups,
    .needs_calibration = true,
    .error_bound = 0.2,  // it lowers the error of outputs, not that of weights
};

}  // namespace slipway::engine
