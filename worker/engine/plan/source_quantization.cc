#include "worker/engine/plan/source_quantization.h"

#include <array>

#include <fmt/format.h>

#include "common/error.h"
#include "worker/engine/transform/block_scales.h"

namespace slipway::engine {
namespace {

using nlohmann::ordered_json;

// compression_config is an older name of compressed-tensors'.
constexpr std::array<const char*, 2> kKeys = {"quantization_config", "compression_config"};

// The model's config.json itself, and the parts of a composed one ("text_config").
template <typename Config, typename Visit>
void ForEachPart(Config& config, Visit visit) {
  visit(config);
  for (auto& part : config) {
    if (part.is_object()) {
      visit(part);
    }
  }
}

absl::StatusOr<BlockShape> BlocksOf(const ordered_json& sizes, const std::string& file) {
  const auto is_size = [](const ordered_json& size) {
    return size.is_number_integer() && size >= kMinimumBlock && size <= kMaximumBlock;
  };
  if (!sizes.is_array() || sizes.size() != 2 || !is_size(sizes[0]) || !is_size(sizes[1])) {
    return Error(Reason::kConfigurationInvalid,
                 fmt::format("quantization_config's weight_block_size is not two numbers from {} to {}", kMinimumBlock,
                             kMaximumBlock),
                 {.file = file});
  }
  return BlockShape{.rows = sizes[0].get<std::int64_t>(), .columns = sizes[1].get<std::int64_t>()};
}

}  // namespace

absl::StatusOr<SourceQuantization> QuantizationOf(const Checkpoint& checkpoint, const ordered_json& config) {
  const std::string file = checkpoint.path + "/config.json";
  const ordered_json* stated = nullptr;
  ForEachPart(config, [&stated](const ordered_json& part) {
    for (const char* key : kKeys) {
      const auto found = part.find(key);
      if (stated == nullptr && found != part.end() && !found->is_null()) {
        stated = &*found;
      }
    }
  });
  SourceQuantization quantization;
  if (stated != nullptr) {
    const auto method = stated->is_object() ? stated->find("quant_method") : stated->end();
    if (!stated->is_object() || (method != stated->end() && !method->is_string())) {
      return Error(Reason::kConfigurationInvalid, "quantization_config does not say how weights are quantized",
                   {.file = file});
    }
    quantization.method = method == stated->end() ? "of an unnamed method" : method->get<std::string>().substr(0, 40);
    const auto sizes = stated->find("weight_block_size");
    if (quantization.method == "fp8" && sizes != stated->end() && !sizes->is_null()) {
      SLIPWAY_ASSIGN_OR_RETURN(quantization.blocks, BlocksOf(*sizes, file));
    }
    return quantization;
  }
  for (const auto& [name, method] : kQuantizationFiles) {
    if (checkpoint.directory->Exists(std::string(name))) {
      quantization.method = method;
      break;
    }
  }
  return quantization;
}

void RemoveQuantization(ordered_json& config) {
  ForEachPart(config, [](ordered_json& part) {
    for (const char* key : kKeys) {
      part.erase(key);
    }
  });
}

}  // namespace slipway::engine
