// Scales and zero points of blocks on their way from where they are found, while a weight's codes are made, to where
// they are written, which is behind the codes: so the values are read once for both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

// Most bytes of one such tensor of a weight that are kept; larger ones are computed from the values once more.
inline constexpr std::int64_t kMaximumStash = std::int64_t{16} << 20;

// For each tensor of the shard, whether it is scales or zero points that are kept: they stand behind their weight's
// codes.
[[nodiscard]] std::vector<bool> StashedScales(const ExportPlan& plan, const Shard& shard);

// Thread-safe. Of a shard; what it holds is that of a few weights at a time, as segments are written in file order.
class ScaleStash {
 public:
  using Bytes = std::shared_ptr<std::byte[]>;

  ScaleStash(const ExportPlan& plan, const Shard& shard);

  // A weight, and what of it: kScales or kZeroPoints.
  using Key = std::pair<std::int32_t, StoredRole>;

  // All of them, to be filled band by band; null where they are not kept.
  Bytes Of(const Key& key);

  // Forgets them: they are written, and no codes of the weight are still to be made.
  void Drop(const Key& key);

 private:
  std::map<Key, std::int64_t> sizes_;  // of what is kept
  std::mutex mutex_;
  std::map<Key, Bytes> kept_;  // guarded by mutex_
};

}  // namespace slipway::engine
