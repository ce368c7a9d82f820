// The sum of squares whose order coding.h fixes.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

namespace slipway::engine {

inline constexpr std::size_t kSumChunk = 128;
inline constexpr std::size_t kSumLanes = 8;

// Of term(i) for i below `count`, neighbours of a row, with term(i) in FP32.
template <class Term>
double SumOfSquares(std::size_t count, Term term) {
  double sum = 0;
  for (std::size_t first = 0; first < count; first += kSumChunk) {
    const std::size_t length = std::min(kSumChunk, count - first);
    std::array<float, kSumLanes> s{};
    for (std::size_t i = 0; i < length; ++i) {
      const float value = term(first + i);
      const float square = value * value;
      s[i % kSumLanes] += square;
    }
    sum += static_cast<double>(((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7])));
  }
  return sum;
}

}  // namespace slipway::engine
