// The neighbours of a rule's scale among which the least squared error is sought.
#pragma once

#include <cstdint>
#include <span>

#include "worker/engine/quantize/coding.h"

namespace slipway::engine {

// kAmax: factors of amax, the first is 1. Their scales are amax * factor / bound, each rounded as the rule's.
[[nodiscard]] std::span<const float> AmaxFactors(Element element);

// Two levels: added to the E4M3 code of the rule's scale, kept within [1, 126]; E8M0: added to its exponent, kept
// within [0, 254]. The first is 0.
[[nodiscard]] std::span<const std::int8_t> CodeSteps(Element element, ScaleRule rule);

}  // namespace slipway::engine
