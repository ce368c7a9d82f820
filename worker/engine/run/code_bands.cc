#include "worker/engine/run/code_bands.h"

#include <cstring>

#include <fmt/format.h>

#include "common/error.h"
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

float TensorScaleOf(const QuantizedWeight& weight, std::span<const float> tensor_scales) {
  return weight.scale_group < 0 ? 1.0F : tensor_scales[static_cast<std::size_t>(weight.scale_group)];
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
  // Strips are coded one by one, other bands together.
  const std::int64_t step = HasStrips(weight) ? bands.rows : rows;
  std::vector<std::byte> zero_points(
      zero_words.empty() ? 0 : static_cast<std::size_t>(ScaleCount(weight.coding, step, bands.columns)));
  for (std::int64_t row = 0; row < rows; row += step) {
    const auto slice = [&](std::span<std::byte> all) {
      const auto whole = static_cast<std::int64_t>(all.size());
      return step == rows ? all
                          : all.subspan(static_cast<std::size_t>(whole / (rows / step) * (row / step)),
                                        static_cast<std::size_t>(whole / (rows / step)));
    };
    const std::size_t value_bytes = values.size() / static_cast<std::size_t>(rows);
    SLIPWAY_RETURN_IF_ERROR(quantization.quantizer->Quantize(
        {.coding = weight.coding,
         .values = {dtype,
                    values.subspan(static_cast<std::size_t>(row) * value_bytes,
                                   static_cast<std::size_t>(step) * value_bytes),
                    step, bands.columns},
         .tensor_scale = TensorScaleOf(weight, quantization.tensor_scales),
         .amaxes = amaxes,
         .codes = codes ? slice(output) : std::span<std::byte>(),
         .scales = slice(scales),
         .zero_points = zero_points,
         .statistics =
             codes ? std::span(statistics).subspan(static_cast<std::size_t>(row), static_cast<std::size_t>(step))
                   : std::span<RowStatistics>()}));
    if (!zero_words.empty()) {
      PackZeroPoints(weight.coding.packing, zero_points, step, slice(zero_words));
    }
  }
  return absl::OkStatus();
}

void MakeSmallOutput(const ExportPlan& plan, const QuantizedPart& part, DType dtype,
                     std::span<const float> tensor_scales, std::int64_t first, std::span<std::byte> output) {
  const auto put = [&](std::span<const float> values) {
    TransformElements({.add_one = false, .from = DType::kF32, .to = dtype}, std::as_bytes(values), output);
  };
  const auto put_one = [&](float value) { put({&value, 1}); };
  if (part.weight < 0) {
    return put_one(part.constant);
  }
  const QuantizedWeight& weight = plan.quantized[static_cast<std::size_t>(part.weight)];
  const std::int64_t index = first / InfoOf(dtype).bytes;
  switch (part.role) {
    case StoredRole::kTensorScale:
    case StoredRole::kFloat8Scale:
      return put_one(TensorScaleOf(weight, tensor_scales));
    case StoredRole::kInputScale:
      return put_one(*weight.input_amax / weight.layout->input_bound);
    case StoredRole::kInputScaleReciprocal:
      return put_one(weight.layout->input_bound / *weight.input_amax);
    case StoredRole::kPreQuantScale:
      return put(
          std::span(*weight.pre_quant_scale)
              .subspan(static_cast<std::size_t>(index), output.size() / static_cast<std::size_t>(InfoOf(dtype).bytes)));
    case StoredRole::kShape:
      return Put(output, index, [&](std::int64_t i) { return i == 0 ? weight.rows : weight.columns; });
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
