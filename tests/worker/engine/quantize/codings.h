// The codings that formats use.
#pragma once

#include "worker/engine/quantize/coding.h"

namespace slipway::test {

using engine::Coding;
using engine::DType;
using engine::Element;
using engine::Packing;
using engine::ScaleRule;
using engine::ScaleSearch;
using engine::Sharing;

inline constexpr Coding kFp8Tensor{};
inline constexpr Coding kFp8Row{.sharing = Sharing::kRow};
inline constexpr Coding kFp8Square{.sharing = Sharing::kSquare, .group = 128};
inline constexpr Coding kInt8Row{.element = Element::kInt8, .sharing = Sharing::kRow, .bound = 127};
inline constexpr Coding kInt4Rows{
    .element = Element::kInt4, .sharing = Sharing::kGroup, .group = 128, .bound = 7, .packing = Packing::kNibbleRows};
inline constexpr Coding kInt4Words{.element = Element::kInt4,
                                   .sharing = Sharing::kGroup,
                                   .group = 128,
                                   .bound = 7.5,
                                   .scale_dtype = DType::kBF16,
                                   .packing = Packing::kWords};
inline constexpr Coding kAwq{.element = Element::kInt4,
                             .sharing = Sharing::kGroup,
                             .group = 32,
                             .bound = 7,
                             .scale_dtype = DType::kF16,
                             .packing = Packing::kWordsColumns};
inline constexpr Coding kGptq{.element = Element::kInt4,
                              .sharing = Sharing::kGroup,
                              .group = 32,
                              .bound = 7,
                              .scale_dtype = DType::kF16,
                              .packing = Packing::kWordsRows};
// With zero points.
inline constexpr Coding kAwqRange{.element = Element::kInt4,
                                  .sharing = Sharing::kGroup,
                                  .group = 32,
                                  .rule = ScaleRule::kRange,
                                  .bound = 15,
                                  .scale_dtype = DType::kF16,
                                  .packing = Packing::kWordsColumns};
inline constexpr Coding kInt4Range{.element = Element::kInt4,
                                   .sharing = Sharing::kGroup,
                                   .group = 128,
                                   .rule = ScaleRule::kRangeRounded,
                                   .bound = 15,
                                   .scale_dtype = DType::kBF16,
                                   .packing = Packing::kWords};
inline constexpr Coding kNvfp4{.element = Element::kE2M1,
                               .sharing = Sharing::kGroup,
                               .group = 16,
                               .rule = ScaleRule::kTwoLevel,
                               .bound = 6,
                               .scale_dtype = DType::kF8E4M3,
                               .packing = Packing::kNibblePairs};
inline constexpr Coding kNvfp4Reciprocal{.element = Element::kE2M1,
                                         .sharing = Sharing::kGroup,
                                         .group = 16,
                                         .rule = ScaleRule::kTwoLevelReciprocal,
                                         .bound = 6,
                                         .scale_dtype = DType::kF8E4M3,
                                         .packing = Packing::kNibblePairs};
inline constexpr Coding kMxfp4{.element = Element::kE2M1,
                               .sharing = Sharing::kGroup,
                               .group = 32,
                               .rule = ScaleRule::kPowerOfTwo,
                               .bound = 6,
                               .scale_dtype = DType::kU8,
                               .packing = Packing::kNibblePairs};
inline constexpr Coding kMxfp8{
    .sharing = Sharing::kGroup, .group = 32, .rule = ScaleRule::kPowerOfTwo, .scale_dtype = DType::kU8};

// The same with scales out of a search.
constexpr Coding Searched(Coding coding) {
  coding.search = ScaleSearch::kSquaredError;
  return coding;
}

}  // namespace slipway::test
