#include "worker/engine/run/known_scales.h"

namespace slipway::engine {

std::optional<float> KnownScales::Find(const std::string& plan, std::int32_t group) {
  const std::scoped_lock lock(mutex_);
  Enter(plan);
  const auto found = scales_.find(group);
  return found == scales_.end() ? std::nullopt : std::optional(found->second);
}

void KnownScales::Keep(const std::string& plan, std::int32_t group, float scale) {
  const std::scoped_lock lock(mutex_);
  Enter(plan);
  scales_[group] = scale;
}

void KnownScales::Enter(const std::string& plan) {
  if (plan_ != plan) {
    plan_ = plan;
    scales_.clear();
  }
}

}  // namespace slipway::engine
