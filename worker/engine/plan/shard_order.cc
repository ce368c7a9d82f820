#include "worker/engine/plan/shard_order.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string_view>
#include <tuple>

#include "worker/engine/plan/linear_weights.h"

namespace slipway::engine {
namespace {

struct Key {
  std::int64_t layer = 0;
  double share = 0;  // of its plan's output before it
  ShardPlace place;
};

// Of the model, as the checkpoint counts: a rank's own names may begin anew.
std::optional<std::int64_t> LayerOf(const SourceRegion& region, const Checkpoint& checkpoint) {
  if (region.tensor < 0) {
    return std::nullopt;
  }
  const std::string_view name = checkpoint.tensors[static_cast<std::size_t>(region.tensor)].name;
  if (const auto layer = LayerOfModule(name)) {
    return layer;
  }
  const bool is_stack = name.find("layers.") != std::string_view::npos;
  return is_stack && !region.offsets.empty() ? std::optional(region.offsets.front()) : std::nullopt;
}

// The first layer that the shard reads, if it reads any.
std::optional<std::int64_t> FirstLayerOf(const ExportPlan& plan, const Shard& shard) {
  std::optional<std::int64_t> first;
  for (std::int32_t i = shard.first_tensor; i < shard.first_tensor + shard.tensor_count; ++i) {
    const OutputTensor& tensor = plan.tensors[static_cast<std::size_t>(i)];
    const bool of_weight = tensor.quantized && tensor.quantized->weight >= 0;
    const std::vector<SourceRegion>& regions =
        of_weight ? plan.quantized[static_cast<std::size_t>(tensor.quantized->weight)].values.regions : tensor.regions;
    const auto layer = regions.empty() ? std::nullopt : LayerOf(regions.front(), *plan.checkpoint);
    if (layer && (!first || *layer < *first)) {
      first = layer;
    }
  }
  return first;
}

}  // namespace

std::vector<ShardPlace> OrderShards(const std::vector<ExportPlan>& plans) {
  std::vector<Key> keys;
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const ExportPlan& plan = plans[i];
    std::int64_t before = 0;
    std::int64_t layer = 0;  // what belongs to no layer goes with what is before it
    for (std::size_t shard = 0; shard < plan.shards.size(); ++shard) {
      layer = FirstLayerOf(plan, plan.shards[shard]).value_or(layer);
      keys.push_back({.layer = layer,
                      .share = static_cast<double>(before) / static_cast<double>(plan.output_bytes),
                      .place = {i, shard}});
      before += plan.shards[shard].bytes;
    }
  }
  std::ranges::stable_sort(keys, {}, [](const Key& key) { return std::tuple(key.layer, key.share, key.place.plan); });
  std::vector<ShardPlace> places;
  places.reserve(keys.size());
  for (const Key& key : keys) {
    places.push_back(key.place);
  }
  return places;
}

}  // namespace slipway::engine
