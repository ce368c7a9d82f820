// The nearest code by trying all of them, in double and without any of the engine's own code.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "worker/engine/quantize/coding.h"

namespace slipway::test {

// The value of a code by the format's definition; NaN for what is none.
inline double ValueOfCode(engine::Element element, int code) {
  switch (element) {
    case engine::Element::kE4M3: {
      const int exponent = (code >> 3) & 15;
      const int fraction = code & 7;
      const double magnitude = exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
      const double value = (code & 127) == 127 ? std::nan("") : magnitude;
      return (code & 128) != 0 ? -value : value;
    }
    case engine::Element::kE2M1: {
      const double magnitudes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
      return (code & 8) != 0 ? -magnitudes[code & 7] : magnitudes[code & 7];
    }
    case engine::Element::kInt8:
    case engine::Element::kInt4:
      return code >= 128 ? code - 256 : code;
  }
  return 0;
}

// Codes with values: E4M3 and INT8 of a byte, E2M1 of four bits, INT4 as bytes in two's complement.
inline std::vector<int> CodesOf(engine::Element element) {
  std::vector<int> codes;
  for (int code = 0; code < (element == engine::Element::kE2M1 ? 16 : 256); ++code) {
    const double value = ValueOfCode(element, code);
    if (!std::isnan(value) && (element != engine::Element::kInt4 || (value >= -8 && value <= 7))) {
      codes.push_back(code);
    }
  }
  return codes;
}

// Ties go to the even code. Zero is that of the value's sign: of E4M3 by its sign bit, of E2M1 negative for values
// below zero alone.
inline std::uint8_t NearestCode(engine::Element element, double value) {
  const bool negative = element == engine::Element::kE4M3 ? std::signbit(value) : value < 0;
  const bool signs = element == engine::Element::kE4M3 || element == engine::Element::kE2M1;
  const int sign = element == engine::Element::kE4M3 ? 128 : 8;
  static const std::vector<int> codes_by_element[] = {CodesOf(engine::Element::kE4M3), CodesOf(engine::Element::kE2M1),
                                                      CodesOf(engine::Element::kInt8), CodesOf(engine::Element::kInt4)};
  int best = -1;
  double least = INFINITY;
  const double within = std::fmin(std::fmax(value, -1000.0), 1000.0);  // infinities have no distance
  for (const int code : codes_by_element[static_cast<int>(element)]) {
    if (signs && ((code & sign) != 0) != negative) {
      continue;
    }
    const double distance = std::fabs(within - ValueOfCode(element, code));
    if (signs && distance > least) {
      break;  // magnitudes grow from here on
    }
    if (distance < least || (distance == least && code % 2 == 0)) {
      least = distance;
      best = code;
    }
  }
  return static_cast<std::uint8_t>(best);
}

// Of INT4 about a zero point, in two's complement of 8 bits: the code of the nearest of what codes less the zero point
// are; ties go to the even one of those.
inline std::uint8_t NearestCodeAbout(int zero_point, double value) {
  const double within = std::fmin(std::fmax(value, -1000.0), 1000.0);
  int best = -8;
  for (int code = -8; code <= 7; ++code) {
    const double distance = std::fabs(within - (code - zero_point));
    const double least = std::fabs(within - (best - zero_point));
    if (distance < least || (distance == least && (code - zero_point) % 2 == 0)) {
      best = code;
    }
  }
  return static_cast<std::uint8_t>(best);
}

}  // namespace slipway::test
