// Scales of whole tensors that a process has found already: shards of a target with ranks share most of theirs, and
// each is found by reading all of its tensors.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>

namespace slipway::engine {

// Of one plan, the last that was asked about. Thread-safe.
class KnownScales {
 public:
  // By the plan's hash and an index into ExportPlan::scale_groups.
  std::optional<float> Find(const std::string& plan, std::int32_t group);
  void Keep(const std::string& plan, std::int32_t group, float scale);

 private:
  void Enter(const std::string& plan);  // with mutex_ held

  std::mutex mutex_;
  std::string plan_;                      // guarded by mutex_
  std::map<std::int32_t, float> scales_;  // likewise
};

}  // namespace slipway::engine
