// INT4 in groups of a row, with columns scaled by how much inputs use them.
#include <array>

#include "worker/engine/quantize/formats/int4_layouts.h"
#include "worker/engine/quantize/formats/tables.h"

namespace slipway::engine {
namespace {

constexpr std::array kModelOptTensors = std::to_array<LayoutTensor>({
    int4::kModelOptCodes,
    int4::kModelOptScales,
    {.suffix = "pre_quant_scale", .role = StoredRole::kPreQuantScale, .model_dtype = true, .shape = PerColumn},
});

constexpr std::array kLayouts = std::to_array<Layout>({
    int4::kCompressedLayout,
    int4::kCompressedRangeLayout,
    int4::kAwqRangeLayout,
    int4::kAwqLayout,
    {.form = ConfigForm::kModelOpt,
     .activations = Activations::kNone,
     .coding = int4::kModelOptCoding,
     .tensors = kModelOptTensors,
     .algorithm = "W4A16_AWQ",
     .loaders = kLoadsTensorRtLlm,
     .expert_loaders = 0},
});

}  // namespace

constinit const Format kInt4Awq{
    .name = "int4-awq",
    .summary = "INT4 with activation-aware scales",
    .layouts = kLayouts,
    .bits = 4.125,
    .groups = int4::kGroups,
    .needs_calibration = true,
    .error_bound = 0.125,
};

}  // namespace slipway::engine
