// The neighbours of a rule's scale among which the least squared error is sought.
#pragma once

#include <cstdint>
#include <span>

#include "worker/engine/quantize/coding.h"

namespace slipway::engine {

// What the ends of a range are multiplied by.
struct RangeFactors {
  float low = 1;
  float high = 1;
};

// kAmax: factors of amax, the first is 1. Their scales are amax * factor / bound, each rounded as the rule's.
[[nodiscard]] std::span<const float> AmaxFactors(Element element);

// Two levels: added to the E4M3 code of the rule's scale, kept within [1, 126]; E8M0: added to its exponent, kept
// within [0, 254]. The first is 0.
[[nodiscard]] std::span<const std::int8_t> CodeSteps(Element element, ScaleRule rule);

// Ranges: factors of their ends, the first are 1. Their scales and zero points are the rule's of what that makes.
[[nodiscard]] std::span<const RangeFactors> FactorsOfRanges();

// How many scales the coding's search tries, the rule's among them; 1 where it does not search.
[[nodiscard]] std::size_t CandidateCount(const Coding& coding);

}  // namespace slipway::engine
