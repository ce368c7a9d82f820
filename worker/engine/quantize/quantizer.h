// One band of a weight, quantized. Implementations: the scalar reference, SIMD, CUDA; all give the same bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/engine/dtype.h"
#include "worker/engine/quantize/coding.h"

namespace slipway::engine {

// Values: rows x columns, row-major without gaps, F32, BF16 or F16, any alignment, little-endian.
struct Values {
  DType dtype = DType::kBF16;
  std::span<const std::byte> bytes;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
};

// What quantization did to a row. Sums as coding.h says.
struct RowStatistics {
  double squared_error = 0;
  double squared_value = 0;
  float amax = 0;
  float largest_error = 0;     // |e|
  std::int64_t saturated = 0;  // |value / scale| > the largest element; beyond the codes' ends about a zero point
  std::int64_t zeros = 0;      // values that are not zero and became zero
  bool operator==(const RowStatistics&) const = default;
};

// A band: whole blocks of the weight. Its first row is a multiple of `group` for kSquare, of 2 for kNibbleRows; the
// columns are all of the weight's, except for kWordsColumns and kWordsRows, where they are whole groups and whole
// words and the rows are all.
struct QuantizeJob {
  Coding coding;
  Values values;
  float tensor_scale = 1;  // kTensor: the scale. Two levels: the second one. As TensorScale gives it, or any
                           // other within [2^-126, 2^118], for a reciprocal [2^-118, 2^126]
  std::span<const float> amaxes = {};  // given ones, finite, one a scale of the band in the order of `scales`;
                                       // empty: of the values
  // Outputs; each may be empty, then it is not wanted.
  std::span<std::byte> codes = {};           // CodeBytes
  std::span<std::byte> scales = {};          // ScaleCount of scale_dtype, row-major [N, scales a row]; for
                                             // kWordsColumns and kWordsRows [scales a row, N]
  std::span<std::byte> zero_points = {};     // of codings that have them: ScaleCount bytes in the order of `scales`,
                                             // in two's complement; packing.h makes a file's words of them
  std::span<RowStatistics> statistics = {};  // one a row
};

struct Measured {
  float amax = 0;
  std::int64_t first_bad = -1;  // index of the first NaN or infinity, or -1; amax is then of the others
};

// Sizes for a band of `rows` x `columns`, which the coding can take (CanCode).
[[nodiscard]] bool CanCode(const Coding& coding, std::int64_t rows, std::int64_t columns);
[[nodiscard]] std::int64_t CodeBytes(const Coding& coding, std::int64_t rows, std::int64_t columns);
[[nodiscard]] std::int64_t ScaleCount(const Coding& coding, std::int64_t rows, std::int64_t columns);  // kTensor: 0

// The scale of kTensor, or the second one of kTwoLevel, for the amax of a tensor and its fused siblings. For kTwoLevel
// amax / (bound * 448), searched amax / (bound * 256), which leaves the blocks room; 1 for an amax of 0. For
// kTwoLevelReciprocal its reciprocal, (bound * 448) / amax. At least 2^-126, the reciprocal at most 2^126.
[[nodiscard]] float TensorScale(const Coding& coding, float amax);

// Thread-safe: calls may come from any number of threads at once and return when they are done.
class Quantizer {
 public:
  Quantizer() = default;
  Quantizer(const Quantizer&) = delete;
  Quantizer& operator=(const Quantizer&) = delete;
  virtual ~Quantizer() = default;

  // Whether it copies values and results without a detour where they lie in pinned memory (cuda/pinned_memory.h).
  [[nodiscard]] virtual bool takes_pinned_memory() const { return false; }

  [[nodiscard]] virtual std::string_view name() const = 0;  // "scalar", "AVX2", "cuda:0 (NVIDIA H200)"

  // Largest magnitude and the first value that is not finite.
  virtual absl::StatusOr<Measured> Measure(const Values& values) = 0;

  // The job's outputs. Requires finite values (Measure) and CanCode. Errors: of the device only.
  virtual absl::Status Quantize(const QuantizeJob& job) = 0;

  // For kTensor: errors[row * scales.size() + i] = the squared error of the row under scales[i].
  virtual absl::Status SquaredErrors(const Coding& coding, const Values& values, std::span<const float> scales,
                                     std::span<double> errors) = 0;
};

}  // namespace slipway::engine
