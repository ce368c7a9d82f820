// Values to codes and codes to values, one by one, for the host and for GPUs. Encoders round to nearest, ties to even;
// what is beyond the largest element, infinite too, becomes the largest. Where they are compiled, products must not be
// contracted with sums.
#pragma once

#include <cstdint>

#include "worker/engine/float_bits.h"
#include "worker/engine/quantize/coding.h"

namespace slipway::engine {

SLIPWAY_HOST_DEVICE constexpr int ElementBits(Element element) {
  return element == Element::kE4M3 || element == Element::kInt8 ? 8 : 4;
}

SLIPWAY_HOST_DEVICE constexpr float LargestElement(Element element) {
  switch (element) {
    case Element::kE4M3:
      return 448;
    case Element::kE2M1:
      return 6;
    case Element::kInt8:
      return 127;
    case Element::kInt4:
      break;
  }
  return 7;
}

// -0 stays -0. A NaN becomes one (0x7F, 0xFF).
SLIPWAY_HOST_DEVICE constexpr std::uint8_t EncodeE4M3(float value) {
  constexpr std::int32_t kLargest = 0x43E00000;         // 448
  constexpr std::int32_t kSmallestNormal = 0x3C800000;  // 2^-6
  constexpr std::int32_t kRebias = (127 - 7) << 23;
  const std::int32_t magnitude = Magnitude(value);
  // Added to 2^14, whose last place is the smallest subnormal, the FPU rounds where E4M3 would.
  const float sum = FloatOf(static_cast<std::uint32_t>(magnitude)) + 0x1p14F;
  const std::int32_t subnormal = static_cast<std::int32_t>(BitsOf(sum)) - 0x46800000;
  const std::int32_t normal = (magnitude - kRebias + 0x7FFFF + ((magnitude >> 20) & 1)) >> 20;
  const std::int32_t finite = Select(magnitude < kSmallestNormal, subnormal, normal);
  const std::int32_t beyond = Select(magnitude > kInfinityBits, 0x7F, 0x7E);
  const std::int32_t code = Select(magnitude >= kLargest, beyond, finite);
  return static_cast<std::uint8_t>(static_cast<std::uint32_t>(code) | ((BitsOf(value) >> 24) & 0x80));
}

SLIPWAY_HOST_DEVICE constexpr float DecodeE4M3(std::uint8_t code) {
  const std::uint32_t sign = static_cast<std::uint32_t>(code & 0x80) << 24;
  const std::uint32_t magnitude = code & 0x7F;
  if (magnitude == 0x7F) {
    return FloatOf(sign | 0x7FC00000);
  }
  if (magnitude < 8) {
    return FloatOf(sign | BitsOf(static_cast<float>(magnitude) * 0x1p-9F));
  }
  return FloatOf(sign | ((magnitude << 20) + ((127 - 7) << 23)));
}

// The code in bits 0 to 3. The sign bit is set for values below zero alone, those that become zero among them.
SLIPWAY_HOST_DEVICE constexpr std::uint8_t EncodeE2M1(float value) {
  const float magnitude = value < 0 ? -value : value;
  // How many midpoints are passed; a midpoint itself belongs to the even one of its neighbours.
  const int code = static_cast<int>(magnitude > 0.25F) + static_cast<int>(magnitude >= 0.75F) +
                   static_cast<int>(magnitude > 1.25F) + static_cast<int>(magnitude >= 1.75F) +
                   static_cast<int>(magnitude > 2.5F) + static_cast<int>(magnitude >= 3.5F) +
                   static_cast<int>(magnitude > 5.0F);
  return static_cast<std::uint8_t>(code | (value < 0 ? 8 : 0));
}

SLIPWAY_HOST_DEVICE constexpr float DecodeE2M1(std::uint8_t code) {
  const std::uint32_t sign = static_cast<std::uint32_t>(code & 8) << 28;
  const std::uint32_t magnitude = code & 7;
  if (magnitude < 2) {
    return FloatOf(sign | BitsOf(static_cast<float>(magnitude) * 0.5F));
  }
  return FloatOf(sign | ((magnitude << 22) + ((127 - 1) << 23)));
}

// Within [least, largest], at most 2^21 in magnitude.
SLIPWAY_HOST_DEVICE constexpr std::int32_t EncodeInteger(float value, float least, float largest) {
  const float least_or_more = value < least ? least : value;
  const float within = least_or_more > largest ? largest : least_or_more;
  // Added to 1.5 * 2^23, whose last place is 1, the FPU rounds to integers.
  return static_cast<std::int32_t>(BitsOf(within + 0x1.8p23F) - 0x4B400000U);
}

// Integers in two's complement of 8 bits, those of 4 bits too.
SLIPWAY_HOST_DEVICE constexpr std::uint8_t Encode(Element element, float value) {
  switch (element) {
    case Element::kE4M3:
      return EncodeE4M3(value);
    case Element::kE2M1:
      return EncodeE2M1(value);
    case Element::kInt8:
      return static_cast<std::uint8_t>(EncodeInteger(value, -128, 127));
    case Element::kInt4:
      break;
  }
  return static_cast<std::uint8_t>(EncodeInteger(value, -8, 7));
}

// The same about a zero point, 0 for what is no kInt4.
SLIPWAY_HOST_DEVICE constexpr std::uint8_t Encode(Element element, float value, std::int32_t zero_point) {
  if (element != Element::kInt4) {
    return Encode(element, value);
  }
  const auto zero = static_cast<float>(zero_point);
  return static_cast<std::uint8_t>(EncodeInteger(value, -8 - zero, 7 - zero) + zero_point);
}

// Of what Encode gives.
SLIPWAY_HOST_DEVICE constexpr float Decode(Element element, std::uint8_t code) {
  switch (element) {
    case Element::kE4M3:
      return DecodeE4M3(code);
    case Element::kE2M1:
      return DecodeE2M1(code);
    case Element::kInt8:
    case Element::kInt4:
      break;
  }
  return static_cast<float>(static_cast<std::int8_t>(code));
}

// How many scales it is worth: what is left of it where the zero point is taken off.
SLIPWAY_HOST_DEVICE constexpr float Decode(Element element, std::uint8_t code, std::int32_t zero_point) {
  return Decode(element, code) - static_cast<float>(zero_point);
}

// 2^(code - 127), for codes up to 254.
SLIPWAY_HOST_DEVICE constexpr float DecodeE8M0(std::uint8_t code) {
  return FloatOf(code == 0 ? 0x00400000U : static_cast<std::uint32_t>(code) << 23);
}

}  // namespace slipway::engine
