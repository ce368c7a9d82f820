// What both families of Qwen3.5 have.
#pragma once

#include <array>

#include "worker/engine/model/architectures/hybrid_groups.h"

namespace slipway::engine {

namespace targets {

inline constexpr TargetRule kSeparateDeltaInput[] = {{"linear_attn.in_proj_qkv.weight", {kDeltaQkvRows, kHidden}},
                                                     {"linear_attn.in_proj_z.weight", {kDeltaValueRows, kHidden}},
                                                     {"linear_attn.in_proj_b.weight", {kDeltaValueHeads, kHidden}},
                                                     {"linear_attn.in_proj_a.weight", {kDeltaValueHeads, kHidden}}};

}  // namespace targets

inline constexpr std::array kSeparateDeltaInputRules = std::to_array<TensorRule>({
    {"self_attention.in_proj.weight", targets::kSeparateDeltaInput, Transform::kSplit, presences::kAlways,
     Layers::kLinearAttention},
});

}  // namespace slipway::engine
