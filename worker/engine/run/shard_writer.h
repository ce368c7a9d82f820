// Executes one shard of a plan: reads what its tensors need, transforms what changes, writes the file with positioned
// writes, digests it in file order. Bytes depend on the plan alone.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/file_system.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/quantize/quantizer.h"
#include "worker/engine/quantize/weight_statistics.h"
#include "worker/engine/run/buffer_pool.h"
#include "worker/engine/run/known_scales.h"
#include "worker/engine/run/memory_budget.h"
#include "worker/engine/run/memory_needs.h"
#include "worker/engine/transform/rounding.h"

namespace slipway::engine {

struct WrittenTensor {
  std::string name;
  std::string xxh3;  // 16 hexadecimal digits, of the tensor's bytes; empty where digests are off
  std::optional<Rounding> rounding = std::nullopt;              // of those that are cast
  std::optional<WeightStatistics> quantization = std::nullopt;  // of codes
};

struct ShardResult {
  std::int32_t shard = 0;
  std::string file;
  std::int64_t bytes = 0;
  std::string digest;                  // empty where digests are off
  std::vector<WrittenTensor> tensors;  // all of the shard's
  std::int64_t bytes_written = 0;      // by this call; 0 where the journal had the shard
};

// Told of progress and asked whether to stop; both may be called from any thread of the run, often: they must be cheap.
struct RunControl {
  std::function<void(std::int64_t bytes)> written;  // bytes written since the last call
  const std::atomic<bool>* cancelled = nullptr;
};

struct RunResources {
  FileSystem* files = nullptr;      // its durability is a finished shard's
  MemoryBudget* memory = nullptr;   // shared by everything that runs in the process; at least MinimumMemoryBudget
  BufferPool* buffers = nullptr;    // of `memory`, shared likewise; null: each shard has its own
  Quantizer* quantizer = nullptr;   // of what the plan quantizes; null: the best of this processor
  KnownScales* scales = nullptr;    // likewise shared; null: each shard finds its own
  int threads = 1;                  // at least 1
  std::function<int()> share = {};  // how many of these may work now, others are at work beside; null: all
  std::int64_t segment_bytes = kSegmentBytes;  // less only in tests; never changes what is written
};

// Writes shard `shard` into the directory `staging` (which exists) under a name of this attempt's own (`attempt` is
// unique, e.g. "e7-<incarnation>"), syncs it, renames it to its final name and records it in the staging journal. A
// shard that the journal already has (same plan hash, same size) is returned without work. Errors: CHECKPOINT_*,
// OUTPUT_*, CANCELLED, MEMORY_BUDGET_TOO_SMALL, LEASE_LOST where a publisher or a sweep has taken the directory,
// OPTION_UNSUPPORTED where a cast makes a finite weight infinite; the attempt's file is gone after any of them.
absl::StatusOr<ShardResult> WriteShard(const ExportPlan& plan, std::int32_t shard, const std::string& staging,
                                       const std::string& attempt, const RunResources& resources,
                                       const RunControl& control);

}  // namespace slipway::engine
