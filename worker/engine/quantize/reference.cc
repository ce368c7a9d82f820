#include "worker/engine/quantize/reference.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "worker/engine/quantize/block_grid.h"
#include "worker/engine/quantize/element_codes.h"
#include "worker/engine/quantize/packing.h"
#include "worker/engine/quantize/scale_search.h"
#include "worker/engine/quantize/scales.h"
#include "worker/engine/quantize/squared_sum.h"
#include "worker/engine/quantize/value_reader.h"

namespace slipway::engine {
namespace {

// value - element * scale, for the code that the value gets.
float ErrorOf(Element element, float value, float scale) {
  const float product = Decode(element, Encode(element, value / scale)) * scale;
  return value - product;
}

double SquaredError(Element element, std::span<const float> values, float scale) {
  return SumOfSquares(values.size(), [&](std::size_t i) { return ErrorOf(element, values[i], scale); });
}

// A block's values, row by row.
class BlockValues {
 public:
  void Read(const Values& values, const Block& block) {
    columns_ = static_cast<std::size_t>(block.columns);
    values_.resize(static_cast<std::size_t>(block.rows) * columns_);
    for (std::int64_t i = 0; i < block.rows; ++i) {
      ReadValues(values, block.row + i, block.column,
                 std::span(values_).subspan(static_cast<std::size_t>(i) * columns_, columns_));
    }
  }

  [[nodiscard]] float Amax() const {
    float amax = 0;
    for (const float value : values_) {
      amax = std::max(amax, std::fabs(value));
    }
    return amax;
  }

  [[nodiscard]] double SquaredErrorUnder(Element element, float scale) const {
    double sum = 0;
    for (std::size_t first = 0; first < values_.size(); first += columns_) {
      sum += SquaredError(element, std::span(values_).subspan(first, columns_), scale);
    }
    return sum;
  }

 private:
  std::vector<float> values_;
  std::size_t columns_ = 0;
};

// What is stored of the scale that the search chooses.
std::uint32_t ChooseScale(const QuantizeJob& job, const BlockValues& block, float amax) {
  const Coding& coding = job.coding;
  std::uint32_t best = RuleScale(coding, amax, job.tensor_scale);
  if (coding.search == ScaleSearch::kAmax) {
    return best;
  }
  const bool factors = coding.rule == ScaleRule::kAmax;
  const std::span<const float> amax_factors = AmaxFactors(coding.element);
  const std::span<const std::int8_t> steps = CodeSteps(coding.element, coding.rule);
  double least = block.SquaredErrorUnder(coding.element, EffectiveScale(coding, best, job.tensor_scale));
  for (std::size_t i = 1; i < (factors ? amax_factors.size() : steps.size()); ++i) {
    const std::uint32_t stored =
        NeighbourScale(coding, amax, job.tensor_scale, factors ? amax_factors[i] : 1.0F, factors ? 0 : steps[i]);
    const double error = block.SquaredErrorUnder(coding.element, EffectiveScale(coding, stored, job.tensor_scale));
    if (error < least) {
      least = error;
      best = stored;
    }
  }
  return best;
}

void StoreScale(DType dtype, std::uint32_t stored, std::int64_t number, std::span<std::byte> scales) {
  const auto bytes = static_cast<std::size_t>(InfoOf(dtype).bytes);
  std::memcpy(scales.data() + static_cast<std::size_t>(number) * bytes, &stored, bytes);
}

// The blocks' effective scales; what is stored of them goes to job.scales, if that is wanted.
std::vector<float> MakeScales(const QuantizeJob& job, const BlockGrid& grid) {
  std::vector<float> effective(static_cast<std::size_t>(grid.blocks()));
  BlockValues block;
  for (std::int64_t i = 0; i < grid.blocks(); ++i) {
    block.Read(job.values, grid.BlockOf(i));
    const float amax = job.amaxes.empty() ? block.Amax() : job.amaxes[static_cast<std::size_t>(i)];
    const std::uint32_t stored = ChooseScale(job, block, amax);
    effective[static_cast<std::size_t>(i)] = EffectiveScale(job.coding, stored, job.tensor_scale);
    if (!job.scales.empty()) {
      StoreScale(job.coding.scale_dtype, stored, i, job.scales);
    }
  }
  return effective;
}

RowStatistics StatisticsOf(Element element, std::span<const float> values, std::span<const float> scales,
                           std::span<const std::uint8_t> codes) {
  const auto error = [&](std::size_t i) {
    const float product = Decode(element, codes[i]) * scales[i];
    return values[i] - product;
  };
  RowStatistics statistics;
  statistics.squared_error = SumOfSquares(values.size(), error);
  statistics.squared_value = SumOfSquares(values.size(), [&](std::size_t i) { return values[i]; });
  for (std::size_t i = 0; i < values.size(); ++i) {
    statistics.amax = std::max(statistics.amax, std::fabs(values[i]));
    statistics.largest_error = std::max(statistics.largest_error, std::fabs(error(i)));
    statistics.saturated += std::fabs(values[i] / scales[i]) > LargestElement(element) ? 1 : 0;
    statistics.zeros += values[i] != 0 && Decode(element, codes[i]) == 0 ? 1 : 0;
  }
  return statistics;
}

class ReferenceQuantizer final : public Quantizer {
 public:
  [[nodiscard]] std::string_view name() const override { return "scalar"; }

  absl::StatusOr<Measured> Measure(const Values& values) override {
    Measured measured;
    std::vector<float> row(static_cast<std::size_t>(values.columns));
    for (std::int64_t i = 0; i < values.rows; ++i) {
      ReadValues(values, i, 0, row);
      for (std::size_t j = 0; j < row.size(); ++j) {
        if (std::isfinite(row[j])) {
          measured.amax = std::max(measured.amax, std::fabs(row[j]));
        } else if (measured.first_bad < 0) {
          measured.first_bad = i * values.columns + static_cast<std::int64_t>(j);
        }
      }
    }
    return measured;
  }

  absl::Status Quantize(const QuantizeJob& job) override {
    const Values& values = job.values;
    const bool whole = job.coding.sharing == Sharing::kTensor;
    const auto columns = static_cast<std::size_t>(values.columns);
    std::vector<float> effective;
    if (!whole) {
      effective = MakeScales(job, BlockGrid(job.coding, values.rows, values.columns));
    }
    const auto strip = static_cast<std::size_t>(StripRows(job.coding.packing));
    std::vector<std::uint8_t> codes(strip * columns);
    std::vector<float> row(columns);
    std::vector<float> scales(columns, job.tensor_scale);
    for (std::int64_t i = 0; i < values.rows; ++i) {
      ReadValues(values, i, 0, row);
      if (!whole) {
        ScalesOfRow(job, i, effective, scales);
      }
      const std::size_t in_strip = static_cast<std::size_t>(i) % strip;
      const std::span<std::uint8_t> row_codes = std::span(codes).subspan(in_strip * columns, columns);
      for (std::size_t j = 0; j < columns; ++j) {
        row_codes[j] = Encode(job.coding.element, row[j] / scales[j]);
      }
      if (!job.statistics.empty()) {
        job.statistics[static_cast<std::size_t>(i)] = StatisticsOf(job.coding.element, row, scales, row_codes);
      }
      if (!job.codes.empty() && in_strip + 1 == strip) {
        PackStrip(job.coding, codes, i + 1 - static_cast<std::int64_t>(strip), values.rows, values.columns, job.codes);
      }
    }
    return absl::OkStatus();
  }

  absl::Status SquaredErrors(const Coding& coding, const Values& values, std::span<const float> scales,
                             std::span<double> errors) override {
    std::vector<float> row(static_cast<std::size_t>(values.columns));
    for (std::int64_t i = 0; i < values.rows; ++i) {
      ReadValues(values, i, 0, row);
      for (std::size_t j = 0; j < scales.size(); ++j) {
        errors[static_cast<std::size_t>(i) * scales.size() + j] = SquaredError(coding.element, row, scales[j]);
      }
    }
    return absl::OkStatus();
  }

 private:
  static void ScalesOfRow(const QuantizeJob& job, std::int64_t row, std::span<const float> effective,
                          std::span<float> scales) {
    const BlockGrid grid(job.coding, job.values.rows, job.values.columns);
    for (std::size_t j = 0; j < scales.size(); ++j) {
      scales[j] = effective[static_cast<std::size_t>(grid.ScaleOf(row, static_cast<std::int64_t>(j)))];
    }
  }
};

}  // namespace

std::unique_ptr<Quantizer> MakeReferenceQuantizer() { return std::make_unique<ReferenceQuantizer>(); }

}  // namespace slipway::engine
