// What quantization does to numbers, as data: the element that stands for a value, which values share a scale, how the
// scale follows from their largest magnitude, and how codes lie in memory. The reference (reference.h) is the
// definition of the result; SIMD and CUDA equal it bit for bit.
//
// Arithmetic, all in FP32 and without fused multiply-add:
//  1. amax = max |value| of a block (the values that share a scale), or what was given for it.
//  2. scale = what `rule` makes of it, rounded to what is stored; a block of zeros has a scale of 1 (E8M0: 2^-127).
//     No scale is zero or infinite: kAmax keeps it within [2^-126, the largest finite] for F32 and BF16, [2^-24, 65504]
//     for F16, two-level rules within E4M3's [2^-9, 448] (scales.h).
//  3. code = the element nearest to value / scale (a division, not a product with a reciprocal), ties to even, beyond
//     the largest element the largest, infinite quotients too (element_codes.h). Two-level scales: value / (scale *
//     tensor_scale), or value / (scale / tensor_scale), the divisor rounded first.
//  4. A code stands for element * scale, the product rounded to FP32; of two levels, element times that divisor.
//
// Rules of a range (kInt4 in groups alone, and not in kWordsRows) have a zero point z beside each scale, an integer
// within [-8, 7]: the code that stands for 0. A block's range is from low, its least value or 0, to high, its largest
// or 0; where an amax is given, from -amax to amax.
//  2. scale = (high - low) / bound, z = -8 - (low / scale rounded to the nearest integer, ties to even), within
//     [-8, 7]. kRange computes in FP32 and rounds the scale alone; kRangeRounded rounds the difference, the quotient,
//     low / scale and -8 - that to scale_dtype, one after the other, as tensor libraries do. A range of 0 has a scale
//     of
//     1. Scales are limited as kAmax's are, and so is the difference.
//  3. code = z + the integer nearest to value / scale within [-8 - z, 7 - z].
//  4. It stands for (code - z) * scale.
//
// Squared errors, of statistics and of the search for scales: e = value - element * scale, e * e, added up in chunks
// of 128 neighbours of a row (the last is what is left): lane j of 8 adds e * e of elements j, j + 8, ... in order;
// the chunk is ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7)), in FP32. Chunks are added up in FP64, left to right
// and row by row. A block narrower than 128 is a chunk of its own where it is its error that counts.
#pragma once

#include <cstdint>

#include "worker/engine/dtype.h"
#include "worker/engine/float_bits.h"

namespace slipway::engine {

enum class Element : std::uint8_t {
  kE4M3,  // FP8 without infinities, largest 448
  kE2M1,  // FP4: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives; zero is +0 unless the value is negative
  kInt8,  // [-128, 127]
  kInt4,  // [-8, 7]
};

// Which values share a scale.
enum class Sharing : std::uint8_t {
  kTensor,  // all, and those of fused siblings
  kRow,     // an output channel
  kGroup,   // `group` neighbours of a row; it divides the columns
  kSquare,  // group x group, smaller at the right and the lower edge
};

enum class ScaleRule : std::uint8_t {
  kAmax,               // amax / bound, rounded to scale_dtype
  kPowerOfTwo,         // E8M0: 2^ceil(log2(amax / bound)), so that nothing saturates; at least 2^-127
  kPowerOfTwoRounded,  // E8M0: 2^(floor(log2(r(amax))) - floor(log2(bound))), r rounds mantissas from 1.75 on up
  kTwoLevel,           // E4M3: amax / (bound * tensor_scale), within [2^-9, 448] (ModelOpt)
  // E4M3: (amax / bound) * tensor_scale, within [2^-9, 448], with tensor_scale the reciprocal of kTwoLevel's; a block
  // of zeros has 0.125. value / (scale / tensor_scale) (compressed-tensors)
  kTwoLevelReciprocal,
  kRange,         // (high - low) / bound with a zero point, rounded to scale_dtype (AutoAWQ)
  kRangeRounded,  // the same with each step rounded to it (compressed-tensors)
};

// How codes lie in memory. N rows, K columns.
enum class Packing : std::uint8_t {
  kBytes,         // [N, K] bytes; of 4 bits: integers in two's complement of 8 bits, E2M1 in the low nibble
  kNibblePairs,   // [N, K/2] bytes: element 2j in the low nibble
  kNibbleRows,    // [N/2, K] bytes: row 2i in the low nibble, two's complement
  kWords,         // [N, ceil(K * bits / 32)] words: code + 2^(bits - 1), element i from bit i * bits on
  kWordsColumns,  // [K, N/8] words of 4-bit code + 8: AutoAWQ, columns in the order 0 2 4 6 1 3 5 7 from the low nibble
  kWordsRows,     // [K/8, N] words of 4-bit code + 8: GPTQ, k in order from the low nibble
};

// Whether codes are packed down the columns of a weight, not along its rows; scales then lie in [scales a row, N].
SLIPWAY_HOST_DEVICE constexpr bool PacksColumns(Packing packing) {
  return packing == Packing::kWordsColumns || packing == Packing::kWordsRows;
}

// Whether scales of blocks are under a second one, of the tensor.
SLIPWAY_HOST_DEVICE constexpr bool IsTwoLevel(ScaleRule rule) {
  return rule == ScaleRule::kTwoLevel || rule == ScaleRule::kTwoLevelReciprocal;
}

// Whether blocks have zero points.
SLIPWAY_HOST_DEVICE constexpr bool HasZeroPoints(ScaleRule rule) {
  return rule == ScaleRule::kRange || rule == ScaleRule::kRangeRounded;
}

enum class ScaleSearch : std::uint8_t {
  kAmax,          // the rule's scale
  kSquaredError,  // of the rule's scale and its neighbours (scale_search.h) that of least squared error; the first of
                  // equals, and the rule's is the first
};

struct Coding {
  Element element = Element::kE4M3;
  Sharing sharing = Sharing::kTensor;
  std::int32_t group = 0;  // of kGroup and kSquare
  ScaleRule rule = ScaleRule::kAmax;
  float bound = 448;                // 448, 127, 127.5, 7, 7.5, 6: what amax becomes; 15: what a range does
  DType scale_dtype = DType::kF32;  // F32, BF16, F16, F8_E4M3 (kTwoLevel), U8 (E8M0)
  Packing packing = Packing::kBytes;
  ScaleSearch search = ScaleSearch::kAmax;
  bool operator==(const Coding&) const = default;
};

}  // namespace slipway::engine
