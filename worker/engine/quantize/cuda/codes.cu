// Codes from scales that are there, a unit of packed codes a thread: for the jobs that the fused kernels do not take.
#include <algorithm>

#include "worker/engine/quantize/cuda/device_values.cuh"
#include "worker/engine/quantize/cuda/geometry.h"
#include "worker/engine/quantize/cuda/kernels.h"
#include "worker/engine/quantize/element_codes.h"
#include "worker/engine/quantize/scales.h"

namespace slipway::engine {
namespace {

constexpr std::int64_t kMostBlocks = 1 << 22;

struct Arguments {
  const void* values;
  Blocks blocks;
  Coding coding;
  float tensor_scale;
  const void* scales;
  const std::int8_t* zero_points;
  void* codes;
  std::int64_t units;
};

__device__ __forceinline__ std::uint32_t CodeAt(const Arguments& a, std::int64_t row, std::int64_t column,
                                                float value) {
  if (a.coding.sharing == Sharing::kTensor) {
    return Encode(a.coding.element, value / a.tensor_scale);
  }
  const std::int64_t number = a.blocks.ScaleIndex(row / a.blocks.block_rows, column / a.blocks.block_columns);
  const std::uint32_t stored = LoadScale(a.scales, number, a.coding.scale_dtype);
  const float quotient = value / EffectiveScale(a.coding, stored, a.tensor_scale);
  return a.zero_points == nullptr ? Encode(a.coding.element, quotient)
                                  : Encode(a.coding.element, quotient, a.zero_points[number]);
}

template <DType kType>
__global__ void __launch_bounds__(kBlockThreads) CodeUnits(const Arguments a) {
  const Packing packing = a.coding.packing;
  const int bits = packing == Packing::kBytes ? 8 : ElementBits(a.coding.element);
  const std::uint32_t mask = (1U << bits) - 1;
  const bool words = packing == Packing::kWords || PacksColumns(packing);
  const std::uint32_t offset = words ? 1U << (bits - 1) : 0;
  const std::int64_t threads = static_cast<std::int64_t>(gridDim.x) * kBlockThreads;
  for (std::int64_t number = static_cast<std::int64_t>(blockIdx.x) * kBlockThreads + threadIdx.x; number < a.units;
       number += threads) {
    const PackedUnit unit = UnitOf(packing, bits, a.blocks.rows, a.blocks.columns, number);
    std::uint32_t packed = 0;
    for (int i = 0; i < unit.values; ++i) {
      const int place = PlaceInUnit(packing, i);
      const std::int64_t row = unit.row + (unit.down ? place : 0);
      const std::int64_t column = unit.column + (unit.down ? 0 : place);
      const float value = LoadValue<kType>(a.values, row * a.blocks.columns + column);
      const std::uint32_t code = CodeAt(a, row, column, value);
      packed |= ((code & mask) ^ offset) << (i * bits);
    }
    if (words) {
      static_cast<std::uint32_t*>(a.codes)[unit.at] = packed;
    } else {
      static_cast<std::uint8_t*>(a.codes)[unit.at] = static_cast<std::uint8_t>(packed);
    }
  }
}

}  // namespace

void LaunchCodes(const DeviceJob& job, cudaStream_t stream) {
  const DeviceValues& values = job.values;
  const std::int64_t units = UnitsOf(job.coding.packing, ElementBits(job.coding.element), values.rows, values.columns);
  const Arguments arguments{values.data, BlocksOf(job.coding, values.rows, values.columns),
                            job.coding,  job.tensor_scale,
                            job.scales,  job.zero_points,
                            job.codes,   units};
  const auto grid = static_cast<unsigned>(std::min(CeilingOf(units, kBlockThreads), kMostBlocks));
  WithValueType(values.dtype, [&]<DType kType>() { CodeUnits<kType><<<grid, kBlockThreads, 0, stream>>>(arguments); });
}

}  // namespace slipway::engine
