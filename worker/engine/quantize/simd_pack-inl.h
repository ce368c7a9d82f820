// From codes, one a byte, to how they lie in memory.
#if defined(SLIPWAY_QUANTIZE_SIMD_PACK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLIPWAY_QUANTIZE_SIMD_PACK_INL_H_
#undef SLIPWAY_QUANTIZE_SIMD_PACK_INL_H_
#else
#define SLIPWAY_QUANTIZE_SIMD_PACK_INL_H_
#endif

#include <algorithm>
#include <array>
#include <cstring>

#include "worker/engine/quantize/simd_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace slipway::engine::HWY_NAMESPACE {

using Bytes = hn::CappedTag<std::uint8_t, kStep>;

// Calls step(i) for i = 0, lanes, 2 * lanes, ... below `count`; it returns what belongs at out + i, of which the last
// is cut off. What step() reads must be there up to a multiple of kStep.
template <class D, class Step>
HWY_INLINE void StoreAll(D d, std::size_t count, std::uint8_t* HWY_RESTRICT out, const Step& step) {
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    hn::StoreU(step(i), d, out + i);
  }
  if (i < count) {
    HWY_ALIGN std::array<std::uint8_t, kStep> rest;
    hn::Store(step(i), d, rest.data());
    std::memcpy(out + i, rest.data(), count - i);
  }
}

// `count` bytes, `flip` flipped in each.
inline void PackBytes(const std::uint8_t* HWY_RESTRICT codes, std::size_t count, std::uint8_t flip,
                      std::uint8_t* HWY_RESTRICT out) {
  const Bytes d;
  StoreAll(d, count, out, [&](std::size_t i) HWY_ATTR { return hn::Xor(hn::LoadU(d, codes + i), hn::Set(d, flip)); });
}

// `count` bytes of two codes each, the first in the low nibble; `flip` is flipped in each nibble.
inline void PackPairs(const std::uint8_t* HWY_RESTRICT codes, std::size_t count, std::uint8_t flip,
                      std::uint8_t* HWY_RESTRICT out) {
  const hn::Repartition<std::uint16_t, Bytes> wide;
  const hn::Rebind<std::uint8_t, decltype(wide)> d;
  const auto flips = hn::Set(wide, static_cast<std::uint16_t>(flip * 0x101));
  StoreAll(d, count, out, [&](std::size_t i) HWY_ATTR {
    const auto pairs = hn::Xor(hn::BitCast(wide, hn::LoadU(Bytes(), codes + 2 * i)), flips);
    const auto low = hn::And(pairs, hn::Set(wide, 0x000f));
    const auto high = hn::And(hn::ShiftRight<4>(pairs), hn::Set(wide, 0x00f0));
    return hn::TruncateTo(d, hn::Or(low, high));
  });
}

// `count` bytes of a code of each of two rows, the first row's in the low nibble.
inline void PackRows(const std::uint8_t* HWY_RESTRICT first, const std::uint8_t* HWY_RESTRICT second, std::size_t count,
                     std::uint8_t* HWY_RESTRICT out) {
  const Bytes d;
  const hn::Repartition<std::uint16_t, Bytes> wide;
  StoreAll(d, count, out, [&](std::size_t i) HWY_ATTR {
    const auto mask = hn::Set(d, 0x0f);
    const auto low = hn::And(hn::LoadU(d, first + i), mask);
    const auto high = hn::BitCast(wide, hn::And(hn::LoadU(d, second + i), mask));
    return hn::Or(low, hn::BitCast(d, hn::ShiftLeft<4>(high)));
  });
}

// `count` words (room: up to a multiple of 16) of a code + 8 of each of eight rows that lie `stride` apart.
inline void PackColumns(const std::uint8_t* HWY_RESTRICT codes, std::size_t stride, std::size_t count,
                        std::uint32_t* HWY_RESTRICT words) {
  constexpr std::array<std::size_t, 8> kOrder = {0, 2, 4, 6, 1, 3, 5, 7};
  const Words w;
  const hn::Rebind<std::uint8_t, Words> bytes;
  for (std::size_t i = 0; i < count; i += hn::Lanes(w)) {
    auto word = hn::Set(w, 0x88888888U);
    for (std::size_t nibble = 0; nibble < kOrder.size(); ++nibble) {
      const auto code = hn::PromoteTo(w, hn::LoadU(bytes, codes + kOrder[nibble] * stride + i));
      const auto low = hn::And(code, hn::Set(w, 0x0fU));
      word = hn::Xor(word, hn::ShiftLeftSame(low, static_cast<int>(4 * nibble)));
    }
    hn::Store(word, w, words + i);
  }
}

// Word j of row i goes to word j * out_stride + i: `rows` neighbours at a time.
inline void StoreTransposed(const std::uint32_t* HWY_RESTRICT words, std::size_t rows, std::size_t count,
                            std::size_t stride, std::uint8_t* HWY_RESTRICT out, std::size_t out_stride) {
  std::array<std::uint32_t, 16> line;
  for (std::size_t j = 0; j < count; ++j) {
    for (std::size_t i = 0; i < rows; ++i) {
      line[i] = words[i * stride + j];
    }
    std::memcpy(out + j * out_stride * sizeof(line[0]), line.data(), rows * sizeof(line[0]));
  }
}

}  // namespace slipway::engine::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SLIPWAY_QUANTIZE_SIMD_PACK_INL_H_
