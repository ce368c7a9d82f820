// What families that see have in common: extents of their towers.
#pragma once

#include <cstdint>

#include "worker/engine/model/architectures/tensor_groups.h"

namespace slipway::engine {

namespace extents {

inline constexpr Extent kVisionHidden = [](const Configuration& c) { return c.vision.hidden_size.value_or(0); };
inline constexpr Extent kVisionQkvRows = [](const Configuration& c) { return 3 * kVisionHidden(c); };
inline constexpr Extent kVisionFfn = [](const Configuration& c) { return c.vision.ffn_hidden_size.value_or(0); };
inline constexpr Extent kVisionChannels = [](const Configuration& c) { return c.vision.channels.value_or(0); };
inline constexpr Extent kVisionPatch = [](const Configuration& c) { return c.vision.patch_size.value_or(0); };
inline constexpr Extent kVisionFrames = [](const Configuration& c) { return c.vision.frames.value_or(0); };
inline constexpr Extent kVisionPositions = [](const Configuration& c) { return c.vision.positions.value_or(0); };
inline constexpr Extent kVisionOutput = [](const Configuration& c) { return c.vision.output_size.value_or(0); };
// Of the patches that become one token.
inline constexpr Extent kVisionMerged = [](const Configuration& c) {
  const std::int64_t side = c.vision.merge_size.value_or(0);
  return side * side * kVisionHidden(c);
};

}  // namespace extents

namespace targets {

inline constexpr TargetRule kPatchEmbedding[] = {
    {"patch_embed.proj.weight", {kVisionHidden, kVisionChannels, kVisionFrames, kVisionPatch, kVisionPatch}}};

}  // namespace targets

}  // namespace slipway::engine
