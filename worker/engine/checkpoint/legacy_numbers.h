// The numbers in the names of a legacy rank's tensors: layers and experts, counted within the rank.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/legacy_rank.h"

namespace slipway::engine {

// True for a name inside the stack of layers.
bool IsInLayers(std::string_view name);

// The layer's number in the name; absent outside the layers, or where there is none.
std::optional<std::int64_t> LayerOf(std::string_view name);

// `name`, which has a layer's number, with another.
std::string WithLayer(std::string_view name, std::int64_t layer);

// How many layers the model has; CHECKPOINT_CORRUPT where they are not numbered 0, 1, 2...
absl::StatusOr<std::int64_t> CountLayers(const std::string& file, const RankModel& model);

// "decoder.layers.0.mlp.experts.experts.5.linear_fc1.weight": the number and what is before and after it.
struct ExpertName {
  std::string_view head;  // "decoder.layers.0.mlp.experts.experts."
  std::int64_t number = 0;
  std::string_view tail;  // ".linear_fc1.weight"
};
std::optional<ExpertName> ExpertOf(std::string_view name);  // borrows

// How many experts of each layer the model has, by ExpertName::head. CHECKPOINT_CORRUPT where they are not numbered
// 0, 1, 2..., or are on `expert_ranks` ranks not those that the layer's router knows.
absl::StatusOr<std::map<std::string, std::int64_t, std::less<>>> CountExperts(const std::string& file,
                                                                              std::int64_t expert_ranks,
                                                                              const RankModel& model);

}  // namespace slipway::engine
