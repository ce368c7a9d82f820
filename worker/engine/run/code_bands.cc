#include "worker/engine/run/code_bands.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "common/error.h"
#include "worker/engine/quantize/decoded_codes.h"
#include "worker/engine/quantize/packing.h"
#include "worker/engine/run/quantized_bands.h"
#include "worker/engine/transform/element_transform.h"

namespace slipway::engine {
namespace {

// Fills `output` with value(i) for the elements from number `first` on.
template <class Value>
void Put(std::span<std::byte> output, std::int64_t first, const Value& value) {
  using Number = decltype(value(first));
  for (std::size_t i = 0; i < output.size() / sizeof(Number); ++i) {
    const Number number = value(first + static_cast<std::int64_t>(i));
    std::memcpy(output.data() + i * sizeof(Number), &number, sizeof(Number));
  }
}

// Of the matrix-th of a stack.
float TensorScaleOf(const QuantizedWeight& weight, std::span<const float> tensor_scales, std::int64_t matrix) {
  return weight.scale_group < 0 ? 1.0F : tensor_scales[static_cast<std::size_t>(weight.scale_group + matrix)];
}

float InputAmaxOf(const QuantizedWeight& weight, std::int64_t element) {
  return weight.input_amaxes.empty() ? *weight.input_amax : weight.input_amaxes[static_cast<std::size_t>(element)];
}

// Codes whole rows and keeps some of their columns: `job` wants no statistics, `statistics` are those of what is kept.
absl::Status CodeKeptColumns(const QuantizedWeight& weight, QuantizeJob job, Quantizer& quantizer,
                             std::span<RowStatistics> statistics) {
  constexpr std::int64_t kChunkBytes = 256 << 10;
  const std::int64_t columns = job.values.columns;
  const std::int64_t rows_at_once = std::max<std::int64_t>(kChunkBytes / columns, 1);
  const auto part = [](auto span, std::int64_t all_rows, std::int64_t row, std::int64_t rows) {
    const std::size_t of_row = span.size() / static_cast<std::size_t>(all_rows);
    return span.subspan(static_cast<std::size_t>(row) * of_row, static_cast<std::size_t>(rows) * of_row);
  };
  std::vector<std::byte> codes;
  std::vector<std::byte> scales;
  for (std::int64_t row = 0; row < job.values.rows; row += rows_at_once) {
    QuantizeJob chunk = job;
    chunk.values.rows = std::min(rows_at_once, job.values.rows - row);
    chunk.values.bytes = part(job.values.bytes, job.values.rows, row, chunk.values.rows);
    chunk.amaxes = part(job.amaxes, job.values.rows, row, chunk.values.rows);
    codes.resize(static_cast<std::size_t>(CodeBytes(job.coding, chunk.values.rows, columns)));
    scales.resize(static_cast<std::size_t>(ScaleCount(job.coding, chunk.values.rows, columns) *
                                           InfoOf(job.coding.scale_dtype).bytes));
    chunk.codes = codes;
    chunk.scales = scales;
    SLIPWAY_RETURN_IF_ERROR(quantizer.Quantize(chunk));
    const std::vector<std::byte> kept = KeptColumns(weight, codes, 1);
    const std::vector<std::byte> values = KeptColumns(weight, chunk.values.bytes, InfoOf(job.values.dtype).bytes);
    std::ranges::copy(kept, part(job.codes, job.values.rows, row, chunk.values.rows).begin());
    if (!job.scales.empty()) {
      std::ranges::copy(scales, part(job.scales, job.values.rows, row, chunk.values.rows).begin());
    }
    std::ranges::copy(MeasureStoredBand({job.values.dtype, values, chunk.values.rows, weight.kept_columns},
                                        {.coding = job.coding, .codes = kept, .scales = scales}),
                      statistics.subspan(static_cast<std::size_t>(row)).begin());
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CodeBands(const QuantizedWeight& weight, const QuantizedPart& made, const Quantization& quantization,
                       std::span<const std::byte> values, std::span<const float> amaxes, std::int64_t first,
                       std::span<std::byte> output, std::vector<RowStatistics>& statistics) {
  const DType dtype = weight.values.transform.to;
  const Bands bands = BandsOf(weight);
  const std::int64_t elements = static_cast<std::int64_t>(values.size()) / InfoOf(dtype).bytes;
  const std::int64_t rows = elements / bands.columns;
  if (quantization.probe) {
    return quantization.probe(weight, first / bands.columns, {dtype, values, rows, bands.columns});
  }
  const bool codes = made.role == StoredRole::kCodes;
  ScaleStash::Bytes kept[2];  // so that they outlive this
  const auto place = [&](StoredRole role, ScaleStash::Bytes& stashed) -> std::span<std::byte> {
    if (!codes || quantization.stash == nullptr) {
      return made.role == role ? output : std::span<std::byte>();
    }
    stashed = quantization.stash->Of({made.weight, role});
    if (stashed == nullptr) {
      return {};
    }
    return {stashed.get() + OutputBytesOf(weight, role, first / bands.columns),
            static_cast<std::size_t>(OutputBytesOf(weight, role, rows))};
  };
  const std::span<std::byte> scales = place(StoredRole::kScales, kept[0]);
  const std::span<std::byte> zero_words = place(StoredRole::kZeroPoints, kept[1]);
  if (codes) {
    SLIPWAY_ASSIGN_OR_RETURN(const Measured measured,
                             quantization.quantizer->Measure({dtype, values, rows, bands.columns}));
    if (measured.first_bad >= 0) {
      return Error(Reason::kCheckpointCorrupt,
                   fmt::format("element {} is not a finite number: it cannot be quantized", first + measured.first_bad),
                   {.tensor = weight.values.name});
    }
    statistics.resize(static_cast<std::size_t>(rows));
  }
  if (!std::ranges::all_of(amaxes, [](float amax) { return std::isfinite(amax) && amax >= 0; })) {
    return Error(Reason::kCheckpointCorrupt, "one of the ranges or scales that the checkpoint has of it is no range",
                 {.tensor = weight.values.name});
  }
  std::int64_t step = 0;
  std::vector<std::byte> zero_points;
  for (std::int64_t row = 0; row < rows; row += step) {
    step = RowsFrom(weight, first / bands.columns + row, rows - row);
    const auto slice = [&](std::span<std::byte> all, StoredRole role) {
      return step == rows || all.empty() ? all
                                         : all.subspan(static_cast<std::size_t>(OutputBytesOf(weight, role, row)),
                                                       static_cast<std::size_t>(OutputBytesOf(weight, role, step)));
    };
    zero_points.resize(zero_words.empty() ? 0
                                          : static_cast<std::size_t>(ScaleCount(weight.coding, step, bands.columns)));
    const std::size_t value_bytes = values.size() / static_cast<std::size_t>(rows);
    const std::size_t amax_count = HasStrips(weight) ? 0 : amaxes.size() / static_cast<std::size_t>(rows);
    QuantizeJob job{.coding = weight.coding,
                    .values = {dtype,
                               values.subspan(static_cast<std::size_t>(row) * value_bytes,
                                              static_cast<std::size_t>(step) * value_bytes),
                               step, bands.columns},
                    .tensor_scale = TensorScaleOf(weight, quantization.tensor_scales,
                                                  ScaledMatrixAt(weight, first / bands.columns + row).number),
                    .amaxes = amax_count == 0 ? amaxes
                                              : amaxes.subspan(static_cast<std::size_t>(row) * amax_count,
                                                               static_cast<std::size_t>(step) * amax_count),
                    .codes = codes ? slice(output, StoredRole::kCodes) : std::span<std::byte>(),
                    .scales = slice(scales, StoredRole::kScales),
                    .zero_points = zero_points};
    const std::span<RowStatistics> of_rows =
        codes ? std::span(statistics).subspan(static_cast<std::size_t>(row), static_cast<std::size_t>(step))
              : std::span<RowStatistics>();
    if (codes && weight.kept_columns > 0) {
      SLIPWAY_RETURN_IF_ERROR(CodeKeptColumns(weight, job, *quantization.quantizer, of_rows));
      continue;
    }
    job.statistics = of_rows;
    SLIPWAY_RETURN_IF_ERROR(quantization.quantizer->Quantize(job));
    if (!zero_words.empty()) {
      PackZeroPoints(weight.coding.packing, zero_points, step, slice(zero_words, StoredRole::kZeroPoints));
    }
  }
  return absl::OkStatus();
}

void MakeSmallOutput(const ExportPlan& plan, const OutputTensor& tensor, std::span<const float> tensor_scales,
                     std::int64_t first, std::span<std::byte> output) {
  const QuantizedPart& part = *tensor.quantized;
  const DType dtype = tensor.dtype;
  const auto bytes = static_cast<std::size_t>(InfoOf(dtype).bytes);
  const std::int64_t index = first / InfoOf(dtype).bytes;
  const auto put_each = [&](const auto& value_of) {
    for (std::size_t at = 0; at < output.size(); at += bytes) {
      const float value = value_of(index + static_cast<std::int64_t>(at / bytes));
      TransformElements({.add_one = false, .from = DType::kF32, .to = dtype}, std::as_bytes(std::span(&value, 1)),
                        output.subspan(at, bytes));
    }
  };
  if (part.weight < 0) {
    return put_each([&](std::int64_t) { return part.constant; });
  }
  const QuantizedWeight& weight = plan.quantized[static_cast<std::size_t>(part.weight)];
  switch (part.role) {
    case StoredRole::kTensorScale:
    case StoredRole::kFloat8Scale: {
      // Where modules that are joined share one, it is there for each of them.
      const std::int64_t alike = tensor.bytes / InfoOf(dtype).bytes / ScaledMatrixCount(weight);
      return put_each([&](std::int64_t at) { return TensorScaleOf(weight, tensor_scales, at / alike); });
    }
    case StoredRole::kInputScale:
      return put_each([&](std::int64_t at) { return InputAmaxOf(weight, at) / weight.layout->input_bound; });
    case StoredRole::kInputScaleReciprocal:
      return put_each([&](std::int64_t at) { return weight.layout->input_bound / InputAmaxOf(weight, at); });
    case StoredRole::kPreQuantScale:  // of a stack each has the same
      for (std::size_t at = 0; at < output.size();) {
        const std::size_t column = (static_cast<std::size_t>(index) + at / bytes) % weight.pre_quant_scale->size();
        const std::size_t count = std::min(weight.pre_quant_scale->size() - column, (output.size() - at) / bytes);
        TransformElements({.add_one = false, .from = DType::kF32, .to = dtype},
                          std::as_bytes(std::span(*weight.pre_quant_scale).subspan(column, count)),
                          output.subspan(at, count * bytes));
        at += count * bytes;
      }
      return;
    case StoredRole::kShape:
      return Put(output, index, [&](std::int64_t i) { return i == 0 ? weight.rows : KeptColumnsOf(weight); });
    case StoredRole::kConstantZeroPoints:
      return Put(output, index, [&](std::int64_t) { return part.word; });
    case StoredRole::kGroupIndex:
      return Put(output, index,
                 [&](std::int64_t column) { return static_cast<std::int32_t>(column / weight.coding.group); });
    default:
      return;
  }
}

}  // namespace slipway::engine
