#include "worker/engine/target/sharded_state/quantization.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "common/error.h"
#include "worker/engine/quantize/formats/fp8_layouts.h"
#include "worker/engine/quantize/formats/int4_layouts.h"
#include "worker/engine/quantize/formats/int8_layouts.h"
#include "worker/engine/quantize/formats/mxfp4_layouts.h"
#include "worker/engine/quantize/formats/mxfp8_layouts.h"
#include "worker/engine/quantize/formats/nvfp4_layouts.h"
#include "worker/engine/quantize/formats/shapes.h"
#include "worker/engine/quantize/formats/tables.h"
#include "worker/engine/target/quantization_config.h"

namespace slipway::engine {
namespace {

// A scale of a whole matrix is a vector here, with one for each module that is joined in it.
constexpr std::array kFp8Tensors = std::to_array<LayoutTensor>({
    {.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kF8E4M3, .shape = Matrix},
    {.suffix = "weight_scale",
     .role = StoredRole::kTensorScale,
     .model_dtype = true,
     .joined = JoinedScales::kEach,
     .shape = One},
    {.suffix = "input_scale",
     .role = StoredRole::kInputScale,
     .model_dtype = true,
     .joined = JoinedScales::kEachButOne,
     .shape = One},
});
constexpr std::array kNvfp4Tensors = std::to_array<LayoutTensor>({
    {.suffix = "weight_packed", .role = StoredRole::kCodes, .dtype = DType::kU8, .shape = HalfColumns},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .dtype = DType::kF8E4M3, .shape = PerGroup},
    {.suffix = "weight_global_scale",
     .role = StoredRole::kTensorScale,
     .dtype = DType::kF32,
     .joined = JoinedScales::kEach,
     .shape = One},
    {.suffix = "input_global_scale",
     .role = StoredRole::kInputScaleReciprocal,
     .dtype = DType::kF32,
     .joined = JoinedScales::kEach,
     .shape = One},
});

constexpr Layout LayoutOf(std::string_view algorithm, Activations activations, const Coding& coding,
                          std::span<const LayoutTensor> tensors, float input_bound) {
  return {.form = ConfigForm::kCompressedTensors,
          .activations = activations,
          .coding = coding,
          .tensors = tensors,
          .algorithm = algorithm,
          .input_bound = activations == Activations::kNone ? 0 : input_bound,
          .loaders = kLoadsVllm,
          .expert_loaders = kLoadsVllm};
}
constexpr Layout Fp8Layout(Activations activations) {
  return LayoutOf("float-quantized", activations, fp8::kTensorCoding,
                  std::span(kFp8Tensors).first(activations == Activations::kStatic ? 3 : 2), 448);
}
constexpr Layout Nvfp4Layout(Activations activations) {
  return LayoutOf("nvfp4-pack-quantized", activations, nvfp4::kReciprocalCoding,
                  std::span(kNvfp4Tensors).first(activations == Activations::kStatic ? 4 : 3), nvfp4::kInputBound);
}

// The layout of a Hugging Face directory, which another engine would load from there but not from here.
constexpr Layout OfVllm(Layout layout) {
  layout.loaders = kLoadsVllm;
  layout.expert_loaders = kLoadsVllm;
  return layout;
}

// Scales of rows and blocks that the engine keeps in F32 are here in the model's dtype, as it would read them of a
// Hugging Face directory. It transposes the words of experts, and takes scales of a tensor of theirs only with those of
// inputs.
constexpr std::array kFormats = std::to_array<RankFormat>({
    {.format = &kFp8, .layout = Fp8Layout(Activations::kStatic)},
    {.format = &kFp8, .layout = Fp8Layout(Activations::kDynamic), .takes_experts = false},
    {.format = &kFp8PerChannel, .layout = OfVllm(fp8::kRowLayout)},
    {.format = &kFp8Block, .layout = OfVllm(fp8::kBlockLayout)},
    {.format = &kInt8, .layout = OfVllm(int8::kPackedLayout), .takes_experts = false},
    {.format = &kInt8, .layout = OfVllm(int8::kDynamicLayout)},
    {.format = &kInt4, .layout = OfVllm(int4::kCompressedLayout), .groups = int4::kGroups, .takes_experts = false},
    {.format = &kNvfp4, .layout = Nvfp4Layout(Activations::kStatic)},
    {.format = &kNvfp4, .layout = Nvfp4Layout(Activations::kNone), .takes_experts = false},
    {.format = &kMxfp4, .layout = OfVllm(mxfp4::kWeightsLayout)},
    {.format = &kMxfp4, .layout = OfVllm(mxfp4::kDynamicLayout)},
    {.format = &kMxfp8, .layout = OfVllm(mxfp8::kCompressedLayout)},
});

constexpr auto kNeverQuantized = std::to_array<std::string_view>({"lm_head", "embed_tokens", ".gate"});

// config.json with a quantization_config that means what the same recipe's means in a Hugging Face directory, in
// another order perhaps: the engine finds joined modules and experts by the names that they have there.
absl::StatusOr<RankQuantizationText> Describe(const std::vector<RankModule>& modules, KvCache kv_cache,
                                              const RankRequest& /*request*/, std::string_view text) {
  nlohmann::ordered_json config = nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) {
    return Error(Reason::kInternal, "the target has no config.json");
  }
  std::vector<QuantizedModule> quantized;
  quantized.reserve(modules.size());
  for (const RankModule& module : modules) {
    if (IsOutputLayer(module.name)) {  // whatever it is made of: a tied embedding, too
      quantized.push_back({.name = module.name});
      continue;
    }
    for (const std::string& source : module.sources) {
      quantized.push_back({.name = source,
                           .format = module.format == nullptr ? nullptr : module.format->format,
                           .layout = module.format == nullptr ? nullptr : &module.format->layout,
                           .group = module.group});
    }
  }
  if (const auto why = WhyNotKvCache(ConfigForm::kCompressedTensors, kv_cache)) {
    return Error(Reason::kOptionUnsupported, fmt::format("--kv-cache: {}", *why));
  }
  std::ranges::sort(quantized, {}, &QuantizedModule::name);
  if (std::ranges::all_of(quantized, [](const QuantizedModule& module) { return module.format == nullptr; })) {
    return Error(Reason::kOptionUnsupported, "the recipe quantizes nothing that --target vllm-sharded quantizes");
  }
  config["quantization_config"] = MakeQuantizationConfig(ConfigForm::kCompressedTensors, quantized, kv_cache).config;
  return RankQuantizationText{.texts = {{"config.json", config.dump(2) + "\n"}}, .warnings = {}};
}

}  // namespace

constinit const RankQuantization kVllmShardedQuantization{.formats = kFormats,
                                                          .never_quantized = kNeverQuantized,
                                                          .key_scale = ".attn.k_scale",
                                                          .value_scale = ".attn.v_scale",
                                                          .describe = Describe};

}  // namespace slipway::engine
