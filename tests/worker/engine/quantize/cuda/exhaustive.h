// The fused kernels' short ways against the definition, on the GPU, for every input there is. Counts of differences; -1
// where CUDA fails.
#pragma once

#include <cstdint>

#include "worker/engine/quantize/coding.h"

namespace slipway::test {

// The pair conversion to E4M3, and E2M1 of a quotient: all floats but NaN.
std::int64_t E4M3Differences();
std::int64_t E2M1Differences();
std::int64_t E2M1MagnitudeDifferences();  // of quotients that it is for

// ShortQuotientOf: every significand of 11 bits over every significand of 24.
std::int64_t ShortQuotientDifferences();

// Codes by way of QuotientOf: each BF16 value under 65536 scales, and as many FP32 values near the middle of elements.
std::int64_t QuotientDifferences(engine::Element element);

}  // namespace slipway::test
