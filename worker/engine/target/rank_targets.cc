#include "worker/engine/target/rank_targets.h"

#include <algorithm>
#include <array>

namespace slipway::engine {
namespace {

constexpr std::array<RankTarget, 0> kRankTargets = {};

}  // namespace

const RankTarget* FindRankTarget(std::string_view name) {
  const auto* const found = std::ranges::find(kRankTargets, name, &RankTarget::name);
  return found == kRankTargets.end() ? nullptr : found;
}

}  // namespace slipway::engine
