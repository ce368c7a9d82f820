#include "tests/worker/engine/quantize/cuda/exhaustive.h"

#include <cuda_runtime_api.h>

#include "worker/engine/quantize/cuda/encode.cuh"

namespace slipway::test {
namespace {

using engine::BitsOf;
using engine::Divisor;
using engine::DType;
using engine::Element;
using engine::FloatOf;

constexpr unsigned kBlocks = 1 << 16;
constexpr unsigned kThreads = 256;
constexpr unsigned kEach = 256;  // inputs of a thread: 2^32 in all

__device__ std::uint32_t InputOf(unsigned i) { return (blockIdx.x * kThreads + threadIdx.x) * kEach + i; }

__device__ std::uint32_t Mixed(std::uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7FEB352DU;
  x = (x ^ (x >> 15)) * 0x846CA68BU;
  return x ^ (x >> 16);
}

__device__ bool DiffersE4M3(std::uint32_t bits) {
  const float value = FloatOf(bits);
  if (isnan(value)) {
    return false;
  }
  const float within = copysignf(fminf(fabsf(value), 448.0F), value);
  const std::uint32_t code = engine::EncodeE4M3(value);
  return engine::EncodePairE4M3(within, 0.0F) != code || engine::EncodePairE4M3(0.0F, within) != code << 8;
}

__device__ bool DiffersE2M1(std::uint32_t bits) {
  const float value = FloatOf(bits);
  return !isnan(value) && bits != 0x80000000U && engine::EncodeE2M1Quotient(value) != engine::EncodeE2M1(value);
}

template <Element kElement, DType kType>
__device__ bool DiffersUnder(float value, float scale) {
  if (!isfinite(value)) {
    return false;
  }
  const Divisor divisor = engine::MakeDivisor(scale, fabsf(value), kType);
  const std::uint32_t expected = engine::Encode(kElement, value / scale);
  if (!divisor.corrected) {
    return false;
  }
  if constexpr (kElement == Element::kE4M3) {
    return engine::EncodePairE4M3(engine::SignedQuotient<kType>(value, divisor), 0.0F) != expected;
  } else {
    const std::uint32_t mask = engine::ElementBits(kElement) == 8 ? 0xFF : 0xF;
    return ((engine::EncodeOne<kElement, kType>(value, divisor) ^ expected) & mask) != 0;
  }
}

// The 2^23 significands of scales, and two of the 2^10 of values that have 11 bits.
__device__ bool DiffersShortQuotient(std::uint32_t input) {
  const float scale = FloatOf(0x3F800000U | (input & 0x7FFFFF));
  const Divisor divisor = engine::MakeDivisor(scale, 2, DType::kBF16);
  bool differs = false;
  for (std::uint32_t i = 0; i < 2; ++i) {
    const float value = FloatOf(0x3F800000U | (input >> 23 << 14) | i << 13);
    differs = differs || engine::ShortQuotientOf(value, divisor) != value / scale;
  }
  return differs;
}

__device__ bool DiffersE2M1Magnitude(std::uint32_t bits) {
  const float value = FloatOf(bits);
  return value >= 0 && value <= engine::kSmallQuotient && bits != 0x80000000U &&
         engine::EncodeE2M1Magnitude(value) != 0x4B400000U + engine::EncodeE2M1(value);
}

// Scales from 2^-80 to 1, and small values of both.
template <Element kElement>
__device__ bool DiffersQuotient(std::uint32_t input) {
  const std::uint32_t random = Mixed(input);
  const float scale = FloatOf(((47 + random % 80) << 23) | (Mixed(random) & 0x7FFFFF));
  const float brain = FloatOf(input & 0xFFFF0000U);
  const float middle = scale * 0.0625F * static_cast<float>(random >> 24);
  const float near_middle = FloatOf(BitsOf(middle) + (random >> 20) % 3 - 1);
  return DiffersUnder<kElement, DType::kBF16>(brain, scale) ||
         DiffersUnder<kElement, DType::kF32>(near_middle, scale) ||
         DiffersUnder<kElement, DType::kF32>(-near_middle, scale);
}

template <bool (*kDiffers)(std::uint32_t)>
__global__ void __launch_bounds__(kThreads) Count(unsigned long long* count) {
  unsigned differences = 0;
  for (unsigned i = 0; i < kEach; ++i) {
    differences += kDiffers(InputOf(i)) ? 1 : 0;
  }
  if (differences != 0) {
    atomicAdd(count, differences);
  }
}

template <bool (*kDiffers)(std::uint32_t)>
std::int64_t Differences() {
  unsigned long long* count = nullptr;
  unsigned long long found = 0;
  bool good = cudaMalloc(&count, sizeof(found)) == cudaSuccess && cudaMemset(count, 0, sizeof(found)) == cudaSuccess;
  if (good) {
    Count<kDiffers><<<kBlocks, kThreads>>>(count);
    good = cudaGetLastError() == cudaSuccess &&
           cudaMemcpy(&found, count, sizeof(found), cudaMemcpyDeviceToHost) == cudaSuccess;
  }
  cudaFree(count);
  return good ? static_cast<std::int64_t>(found) : -1;
}

}  // namespace

std::int64_t E4M3Differences() { return Differences<DiffersE4M3>(); }
std::int64_t E2M1Differences() { return Differences<DiffersE2M1>(); }
std::int64_t E2M1MagnitudeDifferences() { return Differences<DiffersE2M1Magnitude>(); }
std::int64_t ShortQuotientDifferences() { return Differences<DiffersShortQuotient>(); }

std::int64_t QuotientDifferences(Element element) {
  switch (element) {
    case Element::kE4M3:
      return Differences<DiffersQuotient<Element::kE4M3>>();
    case Element::kE2M1:
      return Differences<DiffersQuotient<Element::kE2M1>>();
    case Element::kInt8:
      return Differences<DiffersQuotient<Element::kInt8>>();
    case Element::kInt4:
      break;
  }
  return Differences<DiffersQuotient<Element::kInt4>>();
}

}  // namespace slipway::test
