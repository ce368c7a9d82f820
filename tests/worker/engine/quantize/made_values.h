// Values to quantize: like weights, and like nothing that one wants to meet.
#pragma once

#include <array>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>

#include "worker/engine/float_bits.h"
#include "worker/engine/quantize/quantizer.h"

namespace slipway::test {

enum class Kind {
  kNormal,   // N(0, 0.02)
  kHeavy,    // with tails: cubes of normal values
  kTies,     // multiples of a quarter
  kZeros,    // 0 and -0, and here and there a value
  kTiny,     // subnormals and zeros
  kHuge,     // up to the largest finite value of the dtype
  kAnyBits,  // any finite pattern of bits
  kAbove,    // above 0 alone, from 0.5 to 1
  kBelow,    // below 0 alone, and 0
  kAlike,    // one value, or its double
  kUniform,  // from -0.25 to 1
};
inline constexpr std::array kKinds = {Kind::kNormal, Kind::kHeavy, Kind::kTies,    Kind::kZeros,
                                      Kind::kTiny,   Kind::kHuge,  Kind::kAnyBits, Kind::kAbove,
                                      Kind::kBelow,  Kind::kAlike, Kind::kUniform};

inline float FiniteValue(Kind kind, engine::DType dtype, std::mt19937& random) {
  std::normal_distribution<float> normal(0, 1);
  std::uniform_int_distribution<std::uint32_t> bits;
  const bool half = dtype == engine::DType::kF16;
  const float smallest = half ? 0x1p-24F : dtype == engine::DType::kBF16 ? 0x1p-133F : 0x1p-149F;
  const float largest = half ? 65504 : dtype == engine::DType::kBF16 ? 0x1.FEp127F : FLT_MAX;
  switch (kind) {
    case Kind::kNormal:
      return 0.02F * normal(random);
    case Kind::kHeavy:
      return 0.02F * std::pow(normal(random), 3.0F);
    case Kind::kTies:
      return 0.25F * static_cast<float>(static_cast<int>(bits(random) % 65) - 32);
    case Kind::kZeros:
      return bits(random) % 16 == 0 ? normal(random) : bits(random) % 2 == 0 ? 0.0F : -0.0F;
    case Kind::kTiny:
      return smallest * static_cast<float>(static_cast<int>(bits(random) % 41) - 20);
    case Kind::kHuge:
      return std::ldexp(largest, -static_cast<int>(bits(random) % 6)) * (bits(random) % 2 == 0 ? 1.0F : -1.0F);
    case Kind::kAnyBits:
      break;
    case Kind::kAbove:
      return 0.5F + std::ldexp(static_cast<float>(bits(random) % 1024), -11);
    case Kind::kBelow:
      return -std::ldexp(static_cast<float>(bits(random) % 512), -9);
    case Kind::kAlike:
      return bits(random) % 64 == 0 ? -0.6875F : -0.34375F;
    case Kind::kUniform:
      return std::ldexp(static_cast<float>(static_cast<int>(bits(random) % 1280) - 256), -10);
  }
  for (;;) {
    const std::uint32_t pattern = bits(random);
    const float value = half                            ? engine::FromHalf(static_cast<std::uint16_t>(pattern))
                        : dtype == engine::DType::kBF16 ? engine::FromBFloat16(static_cast<std::uint16_t>(pattern))
                                                        : engine::FloatOf(pattern);
    if (std::isfinite(value)) {
      return value;
    }
  }
}

// Elements of one kind, or with `mixed` of another in each stretch of 16.
class MadeValues {
 public:
  MadeValues(engine::DType dtype, std::int64_t rows, std::int64_t columns, Kind kind, bool mixed = false,
             unsigned seed = 1)
      : dtype_(dtype), rows_(rows), columns_(columns), bytes_(kOffset, '\0') {
    std::mt19937 random(seed + static_cast<unsigned>(kind));
    for (std::int64_t i = 0; i < rows * columns; ++i) {
      if (mixed && i % 16 == 0) {
        kind = kKinds[random() % kKinds.size()];
      }
      Append(FiniteValue(kind, dtype, random));
    }
  }

  // At an address that nothing is aligned to.
  [[nodiscard]] engine::Values values() const {
    return {.dtype = dtype_,
            .bytes = std::as_bytes(std::span(bytes_)).subspan(kOffset),
            .rows = rows_,
            .columns = columns_};
  }

  void Set(std::int64_t number, float value) {
    const auto size = static_cast<std::size_t>(engine::InfoOf(dtype_).bytes);
    Append(value);
    bytes_.replace(kOffset + static_cast<std::size_t>(number) * size, size, bytes_.substr(bytes_.size() - size));
    bytes_.resize(bytes_.size() - size);
  }

 private:
  static constexpr std::size_t kOffset = 1;

  void Append(float value) {
    const std::uint32_t bits = dtype_ == engine::DType::kF32    ? engine::BitsOf(value)
                               : dtype_ == engine::DType::kBF16 ? engine::ToBFloat16(value)
                                                                : engine::ToHalf(value);
    std::array<char, 4> raw{};
    std::memcpy(raw.data(), &bits, sizeof(bits));
    bytes_.append(raw.data(), static_cast<std::size_t>(engine::InfoOf(dtype_).bytes));
  }

  engine::DType dtype_;
  std::int64_t rows_;
  std::int64_t columns_;
  std::string bytes_;
};

}  // namespace slipway::test
