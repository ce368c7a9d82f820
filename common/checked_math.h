// Arithmetic on sizes that come from outside. Sizes are signed 64-bit; an overflow is nullopt, never a wrapped value.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace slipway {

[[nodiscard]] inline std::optional<std::int64_t> CheckedAdd(std::int64_t a, std::int64_t b) {
  std::int64_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? std::nullopt : std::optional(sum);
}

[[nodiscard]] inline std::optional<std::int64_t> CheckedMultiply(std::int64_t a, std::int64_t b) {
  std::int64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? std::nullopt : std::optional(product);
}

// The product of non-negative extents (1 for none); nullopt for an overflow or a negative extent.
[[nodiscard]] inline std::optional<std::int64_t> CheckedVolume(std::span<const std::int64_t> extents) {
  std::int64_t volume = 1;
  for (const std::int64_t extent : extents) {
    if (extent < 0 || __builtin_mul_overflow(volume, extent, &volume)) {
      return std::nullopt;
    }
  }
  return volume;
}

}  // namespace slipway
