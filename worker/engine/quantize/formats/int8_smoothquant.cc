// INT8 weights and inputs, with outliers of inputs moved into the weights.
#include <array>

#include "worker/engine/quantize/formats/int8_layouts.h"
#include "worker/engine/quantize/formats/tables.h"

namespace slipway::engine {
namespace {

constexpr std::array kLayouts = std::to_array<Layout>({
    int8::kDynamicLayout,
    int8::kStaticLayout,
    int8::ModelOptLayout(int8::kModelOptTensors),
});

}  // namespace

constinit const Format kInt8SmoothQuant{
    .name = "int8-smoothquant",
    .summary = "INT8 with smoothed activations",
    .layouts = kLayouts,
    .bits = 8,
    .needs_calibration = true,
    .error_bound = 0.012,
};

}  // namespace slipway::engine
