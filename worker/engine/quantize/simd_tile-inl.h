// Values of a row as FP32 in the cache: tiles of at most kTile columns, filled up with zeros.
#if defined(SLIPWAY_QUANTIZE_SIMD_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLIPWAY_QUANTIZE_SIMD_TILE_INL_H_
#undef SLIPWAY_QUANTIZE_SIMD_TILE_INL_H_
#else
#define SLIPWAY_QUANTIZE_SIMD_TILE_INL_H_
#endif

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "worker/engine/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace slipway::engine::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// At most 16 lanes, so that steps of 16 suit every instruction set.
using Floats = hn::CappedTag<float, 16>;
using Words = hn::RebindToUnsigned<Floats>;
using Integers = hn::RebindToSigned<Floats>;
using FloatVector = hn::Vec<Floats>;
using WordVector = hn::Vec<Words>;

inline constexpr std::size_t kTile = 1024;  // a multiple of kStep and of the chunks of squared errors
inline constexpr std::size_t kStep = 64;    // what kernels round counts up to

inline std::size_t RoundedUp(std::size_t count, std::size_t multiple) {
  return (count + multiple - 1) / multiple * multiple;
}

struct LoadF32 {
  static constexpr std::size_t kBytes = 4;
  static FloatVector At(const std::byte* in) {
    return hn::BitCast(Floats(),
                       hn::LoadU(hn::Repartition<std::uint8_t, Floats>(), reinterpret_cast<const std::uint8_t*>(in)));
  }
};

struct LoadBF16 {
  static constexpr std::size_t kBytes = 2;
  static FloatVector At(const std::byte* in) {
    const hn::Rebind<std::uint16_t, Floats> halves;
    const auto bits = hn::LoadU(halves, reinterpret_cast<const std::uint16_t*>(in));
    return hn::BitCast(Floats(), hn::ShiftLeft<16>(hn::PromoteTo(Words(), bits)));
  }
};

struct LoadF16 {
  static constexpr std::size_t kBytes = 2;
  static FloatVector At(const std::byte* in) {
    const hn::Rebind<hwy::float16_t, Floats> halves;
    return hn::PromoteTo(Floats(), hn::LoadU(halves, reinterpret_cast<const hwy::float16_t*>(in)));
  }
};

template <class Load>
void LoadTileAs(const std::byte* in, std::size_t count, float* HWY_RESTRICT out) {
  const std::size_t lanes = hn::Lanes(Floats());
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    hn::Store(Load::At(in + i * Load::kBytes), Floats(), out + i);
  }
  if (i < count) {
    std::array<std::byte, 64> rest{};
    std::memcpy(rest.data(), in + i * Load::kBytes, (count - i) * Load::kBytes);
    hn::Store(Load::At(rest.data()), Floats(), out + i);
    i += lanes;
  }
  for (; i < RoundedUp(count, kStep); i += lanes) {
    hn::Store(hn::Zero(Floats()), Floats(), out + i);
  }
}

// `count` elements at `in`, which may lie at any address; `out` is aligned, has room for RoundedUp(count, kStep).
inline void LoadTile(DType dtype, const std::byte* in, std::size_t count, float* HWY_RESTRICT out) {
  switch (dtype) {
    case DType::kBF16:
      return LoadTileAs<LoadBF16>(in, count, out);
    case DType::kF16:
      return LoadTileAs<LoadF16>(in, count, out);
    default:
      return LoadTileAs<LoadF32>(in, count, out);
  }
}

}  // namespace slipway::engine::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SLIPWAY_QUANTIZE_SIMD_TILE_INL_H_
