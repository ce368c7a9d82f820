// In which order the shards of several plans are written.
#pragma once

#include <cstddef>
#include <vector>

#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

// A shard of one of the plans.
struct ShardPlace {
  std::size_t plan = 0;
  std::size_t shard = 0;
};

// All shards of `plans`, those that read the same weights next to each other: by the first layer of the model that they
// read, and in one layer by the share of their plan's output that lies before them. So whoever takes them in this order
// finds in the page cache what the one before has read, also of a checkpoint that is larger than memory.
[[nodiscard]] std::vector<ShardPlace> OrderShards(const std::vector<ExportPlan>& plans);

}  // namespace slipway::engine
