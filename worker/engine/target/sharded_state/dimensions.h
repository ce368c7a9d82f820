// The sizes of a model that is to be split over ranks, read from its config.json and checked.
#pragma once

#include <cstdint>
#include <set>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/target/rank_layout.h"
#include "worker/engine/target/sharded_state/families.h"

namespace slipway::engine::sharded_state {

struct Dimensions {
  std::int64_t layers = 0;
  std::int64_t hidden = 0;
  std::int64_t heads = 0;
  std::int64_t key_value_heads = 0;
  std::int64_t head = 0;     // rows of one head
  std::int64_t ffn = 0;      // of dense layers; 0 where there are none
  std::int64_t experts = 0;  // 0: no layer has any
  std::int64_t expert_ffn = 0;
  std::int64_t vocabulary = 0;
  std::int64_t padded_vocabulary = 0;  // divided by the ranks
  bool tied = false;                   // the output layer is the embedding
  bool qkv_bias = false;
  bool output_bias = false;
  bool mlp_bias = false;
  std::int64_t sparse_step = 1;         // every so many layers have experts,
  std::set<std::int64_t> dense_layers;  // but these

  [[nodiscard]] bool HasExperts(std::int64_t layer) const {
    return experts > 0 && (layer + 1) % sparse_step == 0 && !dense_layers.contains(layer);
  }
};

// CONFIGURATION_INVALID, OPTION_UNSUPPORTED with the sizes that would work, or LIMIT_EXCEEDED for more parts of tensors
// than the ranks of any server need.
absl::StatusOr<Dimensions> ReadDimensions(const Engine& engine, const Family& family, const HuggingFaceModel& model,
                                          const RankRequest& request);

// How many layers each stage has: equally many, and of what remains one each the stages before the last one, from the
// last of them back.
std::vector<std::int64_t> LayersOfStages(std::int64_t layers, std::int64_t stages);

}  // namespace slipway::engine::sharded_state
