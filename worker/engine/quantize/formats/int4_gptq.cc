// INT4 in groups of a row, each rounding error made up for by the columns after it.
#include <array>

#include "worker/engine/quantize/formats/int4_layouts.h"
#include "worker/engine/quantize/formats/tables.h"

namespace slipway::engine {
namespace {

constexpr Coding kGptqCoding{.element = Element::kInt4,
                             .sharing = Sharing::kGroup,
                             .group = 128,
                             .bound = 7,
                             .scale_dtype = DType::kF16,
                             .packing = Packing::kWordsRows};

constexpr std::array kGptqTensors = std::to_array<LayoutTensor>({
    {.suffix = "qweight", .role = StoredRole::kCodes, .dtype = DType::kI32, .shape = GptqWords},
    // The first version of the format stores a zero point less 1.
    {.suffix = "qzeros",
     .role = StoredRole::kConstantZeroPoints,
     .dtype = DType::kI32,
     .word = 0x77777777,
     .shape = ZeroWords},
    {.suffix = "scales", .role = StoredRole::kScales, .dtype = DType::kF16, .shape = PerGroupTransposed},
    {.suffix = "g_idx", .role = StoredRole::kGroupIndex, .dtype = DType::kI32, .shape = PerColumn},
});

constexpr std::array kLayouts = std::to_array<Layout>({
    int4::kCompressedLayout,
    {.form = ConfigForm::kNative,
     .activations = Activations::kNone,
     .coding = kGptqCoding,
     .tensors = kGptqTensors,
     .algorithm = "gptq",
     .loaders = kLoadsVllmAndSglang,
     .expert_loaders = kLoadsVllmAndSglang},
});

}  // namespace

constinit const Format kInt4Gptq{
    .name = "int4-gptq",
    .summary = "INT4 with second-order rounding",
    .layouts = kLayouts,
    .bits = 4.125,
    .groups = int4::kGroups,
    .needs_calibration = true,
    .error_bound = 0.2,  // it lowers the error of outputs, not that of weights
};

}  // namespace slipway::engine
