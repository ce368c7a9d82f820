// The kernels, as functions of the host that queue them on a stream. Data lies on the device: values and outputs at
// addresses that are multiples of 256. Nothing is checked here that Quantizer's callers promise.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <span>

#include "worker/engine/dtype.h"
#include "worker/engine/quantize/coding.h"

namespace slipway::engine {

struct DeviceValues {
  DType dtype = DType::kBF16;
  const void* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
};

// Measured, as a kernel makes it: the bits of amax, and the index of the first bad value or all ones.
struct DeviceMeasured {
  std::uint64_t amax_bits = 0;
  std::uint64_t first_bad = ~std::uint64_t{0};
};

// RowStatistics, as a kernel makes them: the same members at the same places.
struct DeviceRowStatistics {
  double squared_error = 0;
  double squared_value = 0;
  float amax = 0;
  float largest_error = 0;
  std::int64_t saturated = 0;
  std::int64_t zeros = 0;
};

struct DeviceJob {
  Coding coding;
  DeviceValues values;
  float tensor_scale = 1;
  const float* amaxes = nullptr;              // null: of the values
  void* codes = nullptr;                      // null: not wanted
  void* scales = nullptr;                     // null for kTensor alone
  std::int8_t* zero_points = nullptr;         // one a scale of codings that have them, null of others alone
  DeviceRowStatistics* statistics = nullptr;  // null: not wanted
};

// Adds what it finds to `measured`. Indices are those of `values`, plus `first_index`.
cudaError_t LaunchMeasure(const DeviceValues& values, std::int64_t first_index, DeviceMeasured* measured,
                          cudaStream_t stream);

cudaError_t LaunchQuantize(const DeviceJob& job, cudaStream_t stream);

// errors[row * count + i]; `scales` lie on the device.
cudaError_t LaunchSquaredErrors(const Coding& coding, const DeviceValues& values, const float* scales,
                                std::int64_t count, double* errors, cudaStream_t stream);

// The parts of LaunchQuantize. Fused kernels make scales and codes in one pass over values of the usual shapes: columns
// in multiples of 16, scales by the rule of the values' own magnitudes. False: not this job, nothing was queued.
bool LaunchFused(const DeviceJob& job, cudaStream_t stream);
// The same of AutoAWQ's and GPTQ's words of the usual groups; or only the codes, from scales that are there.
bool LaunchWords(const DeviceJob& job, bool scales_given, cudaStream_t stream);
// Searched scales of the usual groups of 16-bit values. Codes are made as well if they lie as they are read: `coded`.
bool LaunchSearch(const DeviceJob& job, bool& coded, cudaStream_t stream);
void LaunchScales(const DeviceJob& job, cudaStream_t stream);  // any job but kTensor's
void LaunchCodes(const DeviceJob& job, cudaStream_t stream);   // any job, from its scales
// Statistics of 16-bit values in whole chunks, whose scales are each of sixteen neighbours at least.
bool LaunchShortStatistics(const DeviceJob& job, cudaStream_t stream);
void LaunchStatistics(const DeviceJob& job, cudaStream_t stream);  // any job, from its scales

}  // namespace slipway::engine
