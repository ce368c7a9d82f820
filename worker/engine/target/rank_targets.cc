#include "worker/engine/target/rank_targets.h"

#include <algorithm>
#include <array>

#include "worker/engine/target/sharded_state/quantization.h"
#include "worker/engine/target/sharded_state/sharded_state.h"
#include "worker/engine/target/tensorrt_llm/layout.h"
#include "worker/engine/target/tensorrt_llm/quantization.h"

namespace slipway::engine {
namespace {

constexpr std::array kRankTargets = std::to_array<RankTarget>({
    {"tensorrt-llm", TensorRtLlmLayout, &kTensorRtLlmQuantization},
    {"vllm-sharded", VllmShardedLayout, &kVllmShardedQuantization},
    {"sglang-sharded", SglangShardedLayout, nullptr},
});

}  // namespace

const RankTarget* FindRankTarget(std::string_view name) {
  const auto* const found = std::ranges::find(kRankTargets, name, &RankTarget::name);
  return found == kRankTargets.end() ? nullptr : found;
}

const RankFormat* FindRankFormat(const RankQuantization& quantization, const Layout* layout) {
  const auto found =
      std::ranges::find_if(quantization.formats, [&](const RankFormat& format) { return &format.layout == layout; });
  return found == quantization.formats.end() ? nullptr : &*found;
}

}  // namespace slipway::engine
