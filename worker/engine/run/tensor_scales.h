// The scales that belong to whole tensors: found by reading what a shard quantizes once before it is written.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/run/shard_writer.h"

namespace slipway::engine {

// One for each of ExportPlan::scale_groups, as TensorScale gives it; 1 for those that shard `shard` has nothing of.
// Depends on the values alone, not on threads, segments or how the checkpoint is cut. CHECKPOINT_CORRUPT, naming the
// tensor, for values that are not finite; otherwise errors as WriteShard.
absl::StatusOr<std::vector<float>> FindTensorScales(const ExportPlan& plan, std::int32_t shard, Quantizer& quantizer,
                                                    const RunResources& resources, const RunControl& control);

}  // namespace slipway::engine
