#include "worker/engine/target/rank_targets.h"

#include <algorithm>
#include <array>

#include "worker/engine/target/sharded_state/sharded_state.h"
#include "worker/engine/target/tensorrt_llm/layout.h"

namespace slipway::engine {
namespace {

constexpr auto kRankTargets = std::to_array<RankTarget>({
    {"tensorrt-llm", TensorRtLlmLayout},
    {"vllm-sharded", VllmShardedLayout},
    {"sglang-sharded", SglangShardedLayout},
});

}  // namespace

const RankTarget* FindRankTarget(std::string_view name) {
  const auto* const found = std::ranges::find(kRankTargets, name, &RankTarget::name);
  return found == kRankTargets.end() ? nullptr : found;
}

}  // namespace slipway::engine
