// Sets of consumers that several tables name.
#pragma once

#include <cstdint>

#include "worker/engine/quantize/format.h"

namespace slipway::engine {

inline constexpr std::uint8_t kLoadsServers = kLoadsVllm | kLoadsSglang | kLoadsTensorRtLlm;
inline constexpr std::uint8_t kLoadsVllmAndSglang = kLoadsVllm | kLoadsSglang;
inline constexpr std::uint8_t kLoadsAllButTensorRtLlm = kLoadsVllm | kLoadsSglang | kLoadsTransformers;
inline constexpr std::uint8_t kLoadsAll = kLoadsServers | kLoadsTransformers;

}  // namespace slipway::engine
