// INT8, one scale a row: weights alone by default.
#include <array>

#include "worker/engine/quantize/formats/int8_layouts.h"
#include "worker/engine/quantize/formats/tables.h"

namespace slipway::engine {
namespace {

constexpr std::array kLayouts = std::to_array<Layout>({
    int8::kPackedLayout,
    {.form = ConfigForm::kModelOpt,
     .activations = Activations::kNone,
     .coding = int8::kModelOptCoding,
     .tensors = std::span(int8::kModelOptTensors).first<2>(),
     .algorithm = "W8A16",
     .loaders = kLoadsTensorRtLlm,
     .expert_loaders = 0},
    int8::kDynamicLayout,
    int8::kStaticLayout,
    int8::ModelOptLayout(std::span(int8::kModelOptTensors).first<3>()),
});

}  // namespace

constinit const Format kInt8{
    .name = "int8",
    .summary = "INT8, one scale a row",
    .layouts = kLayouts,
    .bits = 8,
    .error_bound = 0.012,
};

}  // namespace slipway::engine
