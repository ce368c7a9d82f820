#include "worker/engine/quantize/scale_search.h"

#include <array>

namespace slipway::engine {
namespace {

// Found greedily: each next one lowers the summed squared error most, over normal and Laplace weights and those of a
// trained model. After the last, a grid of 64ths between 0.44 and 1.3 would gain less than 0.3 %.
constexpr std::array<float, 16> kInt4Factors = {1,         0.828125F, 0.765625F, 0.875F,   0.796875F, 0.921875F,
                                                0.734375F, 0.84375F,  0.953125F, 0.96875F, 0.859375F, 1.03125F,
                                                0.890625F, 0.8125F,   0.90625F,  0.703125F};
constexpr std::array<float, 5> kInt8Factors = {1, 0.984375F, 1.015625F, 0.96875F, 1.03125F};
// Nothing saturates: within a factor of two, they shift where the steps of the largest values lie.
constexpr std::array<float, 8> kE4M3Factors = {1, 1.75F, 1.40625F, 1.875F, 1.0625F, 1.53125F, 1.28125F, 1.625F};
// With 1.5 the largest value becomes 4 instead of 6, which have finer steps around them.
constexpr std::array<float, 8> kE2M1Factors = {1, 1.5F, 0.9375F, 1.40625F, 1.0625F, 1.625F, 1.3125F, 0.875F};

// Codes of E4M3 are logarithmic, nearly: 4 and 5 up is a factor of about 1.5. Others never are the best.
constexpr std::array<std::int8_t, 9> kTwoLevelSteps = {0, 5, -1, 4, 1, 6, 3, -2, 2};
// Twice the step size never gains: what saturates then has no finer neighbour.
constexpr std::array<std::int8_t, 2> kE2M1Exponents = {0, -1};
// The steps of E4M3 are relative: another power of two gains nothing.
constexpr std::array<std::int8_t, 1> kSameExponent = {0};

// Found alike, over groups of 32 and of 128. All of a grid of 64ths between 0.69 and 1.05 would gain less than 0.6 %.
constexpr std::array<RangeFactors, 12> kRangeFactors = {{{1, 1},
                                                         {0.9375F, 0.9375F},
                                                         {0.96875F, 0.96875F},
                                                         {1.046875F, 1.046875F},
                                                         {0.90625F, 0.890625F},
                                                         {0.9375F, 0.96875F},
                                                         {0.984375F, 0.984375F},
                                                         {0.859375F, 0.890625F},
                                                         {0.90625F, 0.9375F},
                                                         {1.03125F, 1.015625F},
                                                         {0.96875F, 0.9375F},
                                                         {0.875F, 0.84375F}}};

}  // namespace

std::span<const float> AmaxFactors(Element element) {
  switch (element) {
    case Element::kE4M3:
      return kE4M3Factors;
    case Element::kE2M1:
      return kE2M1Factors;
    case Element::kInt8:
      return kInt8Factors;
    case Element::kInt4:
      break;
  }
  return kInt4Factors;
}

std::span<const std::int8_t> CodeSteps(Element element, ScaleRule rule) {
  if (IsTwoLevel(rule)) {
    return kTwoLevelSteps;
  }
  return element == Element::kE2M1 ? std::span<const std::int8_t>(kE2M1Exponents) : kSameExponent;
}

std::span<const RangeFactors> FactorsOfRanges() { return kRangeFactors; }

std::size_t CandidateCount(const Coding& coding) {
  if (coding.search == ScaleSearch::kAmax) {
    return 1;
  }
  return HasZeroPoints(coding.rule)        ? kRangeFactors.size()
         : coding.rule == ScaleRule::kAmax ? AmaxFactors(coding.element).size()
                                           : CodeSteps(coding.element, coding.rule).size();
}

}  // namespace slipway::engine
