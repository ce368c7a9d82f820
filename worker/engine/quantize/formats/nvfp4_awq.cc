// NVFP4 with columns scaled by how much inputs use them.
#include <array>

#include "worker/engine/quantize/formats/nvfp4_layouts.h"
#include "worker/engine/quantize/formats/tables.h"

namespace slipway::engine {
namespace {

constexpr std::array kLayouts = std::to_array<Layout>({
    {.form = ConfigForm::kModelOpt,
     .activations = Activations::kStatic,
     .coding = nvfp4::kModelOptCoding,
     .tensors = nvfp4::kModelOptTensors,
     .algorithm = "NVFP4_AWQ",
     .input_bound = nvfp4::kInputBound,
     .loaders = kLoadsSglang | kLoadsTensorRtLlm,
     .expert_loaders = 0},
});

}  // namespace

constinit const Format kNvfp4Awq{
    .name = "nvfp4-awq",
    .summary = "NVFP4 with activation-aware scales",
    .layouts = kLayouts,
    .bits = 4.5,
    .column_multiple = 16,
    .shares_tensor_scale = true,
    .needs_calibration = true,
    .error_bound = 0.1,
};

}  // namespace slipway::engine
