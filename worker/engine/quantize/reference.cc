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

// What a block's values are divided by, and which code stands for 0.
struct Grid {
  float scale = 1;
  std::int32_t zero_point = 0;
};

// A grid, and what is stored of its scale.
struct StoredGrid {
  std::uint32_t scale = 0;
  Grid grid;
};

// value - element * scale, for the code that the value gets.
float ErrorOf(Element element, float value, const Grid& grid) {
  const std::uint8_t code = Encode(element, value / grid.scale, grid.zero_point);
  const float product = Decode(element, code, grid.zero_point) * grid.scale;
  return value - product;
}

double SquaredError(Element element, std::span<const float> values, const Grid& grid) {
  return SumOfSquares(values.size(), [&](std::size_t i) { return ErrorOf(element, values[i], grid); });
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

  // From 0, if need be, to 0.
  [[nodiscard]] Range Ends() const {
    Range range;
    for (const float value : values_) {
      range.low = std::min(range.low, value);
      range.high = std::max(range.high, value);
    }
    return range;
  }

  [[nodiscard]] double SquaredErrorUnder(Element element, const Grid& grid) const {
    double sum = 0;
    for (std::size_t first = 0; first < values_.size(); first += columns_) {
      sum += SquaredError(element, std::span(values_).subspan(first, columns_), grid);
    }
    return sum;
  }

 private:
  std::vector<float> values_;
  std::size_t columns_ = 0;
};

// The grids of a block that the search tries, the rule's first.
class Candidates {
 public:
  Candidates(const QuantizeJob& job, const BlockValues& block, std::int64_t number) : job_(job) {
    const bool given = !job.amaxes.empty();
    const float amax = given ? job.amaxes[static_cast<std::size_t>(number)] : block.Amax();
    amax_ = amax;
    range_ = given ? Range{-amax, amax} : block.Ends();
  }

  [[nodiscard]] StoredGrid At(std::size_t i) const {
    const Coding& coding = job_.coding;
    if (HasZeroPoints(coding.rule)) {
      const RangeFactors& factors = FactorsOfRanges()[i];
      const Range range{range_.low * factors.low, range_.high * factors.high};
      const std::uint32_t stored = RangeScale(coding, range);
      const float scale = EffectiveScale(coding, stored, job_.tensor_scale);
      return {stored, {scale, ZeroPoint(coding, range, scale)}};
    }
    const std::uint32_t stored = i == 0 ? RuleScale(coding, amax_, job_.tensor_scale) : Neighbour(i);
    return {stored, {EffectiveScale(coding, stored, job_.tensor_scale), 0}};
  }

 private:
  [[nodiscard]] std::uint32_t Neighbour(std::size_t i) const {
    const Coding& coding = job_.coding;
    const bool factors = coding.rule == ScaleRule::kAmax;
    return NeighbourScale(coding, amax_, job_.tensor_scale, factors ? AmaxFactors(coding.element)[i] : 1.0F,
                          factors ? 0 : CodeSteps(coding.element, coding.rule)[i]);
  }

  const QuantizeJob& job_;
  float amax_ = 0;
  Range range_;
};

StoredGrid ChooseGrid(const QuantizeJob& job, const BlockValues& block, std::int64_t number) {
  const Candidates candidates(job, block, number);
  StoredGrid best = candidates.At(0);
  const std::size_t count = CandidateCount(job.coding);
  if (count == 1) {
    return best;
  }
  double least = block.SquaredErrorUnder(job.coding.element, best.grid);
  for (std::size_t i = 1; i < count; ++i) {
    const StoredGrid candidate = candidates.At(i);
    const double error = block.SquaredErrorUnder(job.coding.element, candidate.grid);
    if (error < least) {
      least = error;
      best = candidate;
    }
  }
  return best;
}

void StoreScale(DType dtype, std::uint32_t stored, std::int64_t number, std::span<std::byte> scales) {
  const auto bytes = static_cast<std::size_t>(InfoOf(dtype).bytes);
  std::memcpy(scales.data() + static_cast<std::size_t>(number) * bytes, &stored, bytes);
}

// The blocks' grids; what is stored of them goes to job.scales and job.zero_points, if that is wanted.
std::vector<Grid> MakeGrids(const QuantizeJob& job, const BlockGrid& blocks) {
  std::vector<Grid> grids(static_cast<std::size_t>(blocks.blocks()));
  BlockValues block;
  for (std::int64_t i = 0; i < blocks.blocks(); ++i) {
    block.Read(job.values, blocks.BlockOf(i));
    const StoredGrid chosen = ChooseGrid(job, block, i);
    grids[static_cast<std::size_t>(i)] = chosen.grid;
    if (!job.scales.empty()) {
      StoreScale(job.coding.scale_dtype, chosen.scale, i, job.scales);
    }
    if (!job.zero_points.empty()) {
      job.zero_points[static_cast<std::size_t>(i)] = static_cast<std::byte>(chosen.grid.zero_point);
    }
  }
  return grids;
}

bool Saturates(const Coding& coding, float quotient, std::int32_t zero_point) {
  if (!HasZeroPoints(coding.rule)) {
    return std::fabs(quotient) > LargestElement(coding.element);
  }
  const auto zero = static_cast<float>(zero_point);
  return quotient < -8 - zero || quotient > 7 - zero;
}

RowStatistics StatisticsOf(const Coding& coding, std::span<const float> values, std::span<const Grid> grids,
                           std::span<const std::uint8_t> codes) {
  const auto steps = [&](std::size_t i) { return Decode(coding.element, codes[i], grids[i].zero_point); };
  const auto error = [&](std::size_t i) {
    const float product = steps(i) * grids[i].scale;
    return values[i] - product;
  };
  RowStatistics statistics;
  statistics.squared_error = SumOfSquares(values.size(), error);
  statistics.squared_value = SumOfSquares(values.size(), [&](std::size_t i) { return values[i]; });
  for (std::size_t i = 0; i < values.size(); ++i) {
    statistics.amax = std::max(statistics.amax, std::fabs(values[i]));
    statistics.largest_error = std::max(statistics.largest_error, std::fabs(error(i)));
    statistics.saturated += Saturates(coding, values[i] / grids[i].scale, grids[i].zero_point) ? 1 : 0;
    statistics.zeros += values[i] != 0 && steps(i) == 0 ? 1 : 0;
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
    std::vector<Grid> of_blocks;
    if (!whole) {
      of_blocks = MakeGrids(job, BlockGrid(job.coding, values.rows, values.columns));
    }
    const auto strip = static_cast<std::size_t>(StripRows(job.coding.packing));
    std::vector<std::uint8_t> codes(strip * columns);
    std::vector<float> row(columns);
    std::vector<Grid> grids(columns, Grid{.scale = job.tensor_scale});
    for (std::int64_t i = 0; i < values.rows; ++i) {
      ReadValues(values, i, 0, row);
      if (!whole) {
        GridsOfRow(job, i, of_blocks, grids);
      }
      const std::size_t in_strip = static_cast<std::size_t>(i) % strip;
      const std::span<std::uint8_t> row_codes = std::span(codes).subspan(in_strip * columns, columns);
      for (std::size_t j = 0; j < columns; ++j) {
        row_codes[j] = Encode(job.coding.element, row[j] / grids[j].scale, grids[j].zero_point);
      }
      if (!job.statistics.empty()) {
        job.statistics[static_cast<std::size_t>(i)] = StatisticsOf(job.coding, row, grids, row_codes);
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
        errors[static_cast<std::size_t>(i) * scales.size() + j] =
            SquaredError(coding.element, row, {.scale = scales[j]});
      }
    }
    return absl::OkStatus();
  }

 private:
  static void GridsOfRow(const QuantizeJob& job, std::int64_t row, std::span<const Grid> of_blocks,
                         std::span<Grid> grids) {
    const BlockGrid blocks(job.coding, job.values.rows, job.values.columns);
    for (std::size_t j = 0; j < grids.size(); ++j) {
      grids[j] = of_blocks[static_cast<std::size_t>(blocks.ScaleOf(row, static_cast<std::int64_t>(j)))];
    }
  }
};

}  // namespace

std::unique_ptr<Quantizer> MakeReferenceQuantizer() { return std::make_unique<ReferenceQuantizer>(); }

}  // namespace slipway::engine
