#include "worker/engine/target/sharded_state/quantization.h"

#include <algorithm>
#include <array>

#include "common/error.h"
#include "worker/engine/quantize/formats/fp8_per_channel_layouts.h"
#include "worker/engine/quantize/formats/int4_layouts.h"
#include "worker/engine/quantize/formats/tables.h"
#include "worker/engine/target/quantization_config.h"

namespace slipway::engine {
namespace {

// Of scales a row the engine keeps F32; those of the model's dtype are what it would read of a Hugging Face directory.
// Formats with one scale a tensor have a vector of scales there, one a joined module, which is not written yet.
constexpr std::array kFormats = std::to_array<RankFormat>({
    {.format = &kFp8PerChannel, .layout = fp8_per_channel::kCompressedLayout, .takes_experts = false},
    {.format = &kInt4, .layout = int4::kCompressedLayout, .groups = int4::kGroups, .takes_experts = false},
});

constexpr auto kNeverQuantized = std::to_array<std::string_view>({"lm_head", "embed_tokens"});

// config.json with the quantization_config that the same recipe has in a Hugging Face directory, of joined modules: the
// engine asks for these by their own names first.
absl::StatusOr<RankQuantizationText> Describe(const std::vector<RankModule>& modules, KvCache kv_cache,
                                              const RankRequest& /*request*/, std::string_view text) {
  nlohmann::ordered_json config = nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) {
    return Error(Reason::kInternal, "the target has no config.json");
  }
  std::vector<QuantizedModule> quantized;
  quantized.reserve(modules.size());
  for (const RankModule& module : modules) {
    quantized.push_back({.name = module.name,
                         .format = module.format == nullptr ? nullptr : module.format->format,
                         .layout = module.format == nullptr ? nullptr : &module.format->layout,
                         .group = module.group});
  }
  if (std::ranges::all_of(quantized, [](const QuantizedModule& module) { return module.format == nullptr; })) {
    return Error(Reason::kOptionUnsupported, "the recipe quantizes nothing that --target vllm-sharded quantizes");
  }
  config["quantization_config"] = MakeQuantizationConfig(ConfigForm::kCompressedTensors, quantized, kv_cache).config;
  return RankQuantizationText{.texts = {{"config.json", config.dump(2) + "\n"}}, .warnings = {}};
}

}  // namespace

constinit const RankQuantization kVllmShardedQuantization{
    .formats = kFormats, .never_quantized = kNeverQuantized, .describe = Describe};

}  // namespace slipway::engine
