// What writing a shard takes from the memory budget.
#pragma once

#include <algorithm>
#include <cstdint>

#include "worker/engine/plan/export_plan.h"
#include "worker/engine/run/quantized_bands.h"
#include "worker/engine/transform/block_scales.h"
#include "worker/engine/transform/low_rank_update.h"

namespace slipway::engine {

// A shard's file is written in segments of at most this many bytes; three times as many where axes are permuted.
inline constexpr std::int64_t kSegmentBytes = std::int64_t{4} << 20;

// Most that one segment maps of its sources: two bytes read for one written, and the pages at the ends of windows.
inline constexpr std::int64_t kMaximumSegmentWindows = 3 * kSegmentBytes;

// Most that one segment holds: its windows, and a buffer for what is not a plain copy.
inline constexpr std::int64_t kMaximumSegmentMemory = kMaximumSegmentWindows + kSegmentBytes;

// The smallest budget in which any shard of `plan` can be written: one segment in flight, with the factors of an
// adapter that is merged or of a product, or scales of codes, and a band of a quantized weight. More makes it faster,
// up to a few segments a thread.
[[nodiscard]] inline std::int64_t MinimumMemoryBudget(const ExportPlan& plan) {
  std::int64_t merge = 0;
  const auto add = [&merge](const OutputTensor& tensor) {
    if (tensor.scales) {
      merge = std::max(merge, kScaleMemory);
    }
    if (tensor.update) {
      merge = std::max(merge, MergeMemory(*tensor.update, tensor.shape[1]));
    }
  };
  for (const OutputTensor& tensor : plan.tensors) {
    add(tensor);
  }
  for (const QuantizedWeight& weight : plan.quantized) {
    add(weight.values);
  }
  return kMaximumSegmentMemory + merge + BandMemory(plan);
}

}  // namespace slipway::engine
