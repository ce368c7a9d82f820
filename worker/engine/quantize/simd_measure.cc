// Largest magnitudes, by integers: the bits of finite numbers without their sign are in the order of the numbers, and
// those of what is not finite are the largest.
#include "worker/engine/quantize/simd_measure.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "worker/engine/quantize/simd_measure.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace slipway::engine::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Largest magnitude of `count` numbers as bits; T is the signed integer of their size.
template <class T>
T LargestBits(const std::byte* in, std::size_t count) {
  const hn::ScalableTag<T> d;
  const std::size_t lanes = hn::Lanes(d);
  const auto magnitude = hn::Set(d, std::numeric_limits<T>::max());
  const auto at = [&](std::size_t i) HWY_ATTR {
    return hn::And(magnitude, hn::LoadU(d, reinterpret_cast<const T*>(in + i * sizeof(T))));
  };
  auto a = hn::Zero(d);
  auto b = a;
  std::size_t i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes) {
    a = hn::Max(a, at(i));
    b = hn::Max(b, at(i + lanes));
  }
  HWY_ALIGN std::array<T, hn::MaxLanes(d)> each;
  hn::Store(hn::Max(a, b), d, each.data());
  T largest = *std::max_element(each.begin(), each.end());
  for (; i < count; ++i) {
    T bits;
    std::memcpy(&bits, in + i * sizeof(T), sizeof(T));
    largest = std::max(largest, static_cast<T>(bits & std::numeric_limits<T>::max()));
  }
  return largest;
}

std::uint32_t LargestOf16(const std::byte* in, std::size_t count) {
  return static_cast<std::uint32_t>(LargestBits<std::int16_t>(in, count));
}

std::uint32_t LargestOf32(const std::byte* in, std::size_t count) {
  return static_cast<std::uint32_t>(LargestBits<std::int32_t>(in, count));
}

}  // namespace slipway::engine::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace slipway::engine {

HWY_EXPORT(LargestOf16);
HWY_EXPORT(LargestOf32);

namespace {

// Elements that are looked through one by one where one of them is not finite.
constexpr std::size_t kStretch = 16384;

std::uint32_t Largest(std::size_t size, const std::byte* in, std::size_t count) {
  return size == 2 ? HWY_DYNAMIC_DISPATCH(LargestOf16)(in, count) : HWY_DYNAMIC_DISPATCH(LargestOf32)(in, count);
}

float NumberOf(DType dtype, std::uint32_t bits) {
  if (dtype == DType::kF16) {
    // Times 2^112 the half's number, exactly: the exponent's bias is 127, not 15.
    return std::bit_cast<float>(bits << 13) * 0x1p112F;
  }
  return std::bit_cast<float>(dtype == DType::kBF16 ? bits << 16 : bits);
}

}  // namespace

Measured MeasureSimd(const Values& values) {
  const std::size_t size = values.dtype == DType::kF32 ? 4 : 2;
  const std::uint32_t infinity = values.dtype == DType::kF32   ? 0x7f800000U
                                 : values.dtype == DType::kF16 ? 0x7c00U
                                                               : 0x7f80U;
  const std::size_t count = values.bytes.size() / size;
  std::uint32_t largest = 0;
  Measured measured;
  for (std::size_t i = 0; i < count; i += kStretch) {
    const std::byte* const in = values.bytes.data() + i * size;
    const std::size_t stretch = std::min(kStretch, count - i);
    const std::uint32_t bits = Largest(size, in, stretch);
    if (bits < infinity) {
      largest = std::max(largest, bits);
      continue;
    }
    for (std::size_t j = 0; j < stretch; ++j) {
      const std::uint32_t one = Largest(size, in + j * size, 1);
      if (one < infinity) {
        largest = std::max(largest, one);
      } else if (measured.first_bad < 0) {
        measured.first_bad = static_cast<std::int64_t>(i + j);
      }
    }
  }
  measured.amax = NumberOf(values.dtype, largest);
  return measured;
}

}  // namespace slipway::engine
#endif  // HWY_ONCE
