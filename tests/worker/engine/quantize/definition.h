// Quantization as coding.h says it, slowly: nearest codes by trying all, sums by their sentences, packings by the bit.
// It shares no arithmetic with the engine; only the candidates of the search are the engine's.
#pragma once

#include <algorithm>
#include <array>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <vector>

#include "tests/worker/engine/quantize/nearest_code.h"
#include "tests/worker/engine/quantize/vectors.h"
#include "worker/engine/quantize/quantizer.h"
#include "worker/engine/quantize/scale_search.h"

namespace slipway::test {

using engine::Coding;
using engine::DType;
using engine::Element;
using engine::Packing;
using engine::ScaleRule;
using engine::Sharing;

// A block's scale: the number that is stored, its bits, and what acts; with the code of 0.
struct DefinedScale {
  std::uint32_t bits = 0;
  float acting = 1;
  int zero_point = 0;
};

// To `digits` binary digits, with none below 2^least; ties to even.
inline double RoundedTo(double value, int digits, int least) {
  int exponent = 0;
  std::frexp(value, &exponent);
  const int step = std::max(exponent - digits, least);
  return std::ldexp(std::nearbyint(std::ldexp(value, -step)), step);
}

inline std::uint32_t SixteenBits(double value, int fraction_bits, int bias) {
  int exponent = 0;
  const double fraction = std::frexp(value, &exponent);
  if (exponent - 1 < 1 - bias) {
    return static_cast<std::uint32_t>(std::ldexp(value, bias - 1 + fraction_bits));
  }
  const auto whole = static_cast<std::uint32_t>(std::ldexp(fraction, fraction_bits + 1));
  return whole + (static_cast<std::uint32_t>(exponent - 2 + bias) << fraction_bits);
}

inline DefinedScale AmaxScale(DType dtype, float amax, float bound) {
  const float quotient = amax == 0 ? 1 : amax / bound;
  if (dtype == DType::kF32) {
    const float scale = std::clamp(quotient, FLT_MIN, FLT_MAX);
    DefinedScale result{.acting = scale};
    std::memcpy(&result.bits, &scale, sizeof(scale));
    return result;
  }
  const bool half = dtype == DType::kF16;
  const double largest = half ? 65504 : std::ldexp(255, 120);
  const double least = half ? 0x1p-24 : 0x1p-126;
  const double within = std::min(static_cast<double>(quotient), largest);
  const double scale = std::max(RoundedTo(within, half ? 11 : 8, half ? -24 : -133), least);
  return {.bits = half ? SixteenBits(scale, 10, 15) : SixteenBits(scale, 7, 127), .acting = static_cast<float>(scale)};
}

// To what a dtype can say.
inline double Step(DType dtype, double value) {
  return dtype == DType::kBF16  ? RoundedTo(value, 8, -133)
         : dtype == DType::kF16 ? RoundedTo(value, 11, -24)
                                : static_cast<double>(static_cast<float>(value));
}

// Of a range that ends at `low` and at `high`.
inline DefinedScale RangeScale(const Coding& coding, float low, float high) {
  const bool rounded = coding.rule == ScaleRule::kRangeRounded;
  const float width = high - low;
  const float limited = width == 0 ? 0 : AmaxScale(rounded ? coding.scale_dtype : DType::kF32, width, 1).acting;
  DefinedScale result = AmaxScale(coding.scale_dtype, limited, coding.bound);
  const float quotient = low / result.acting;
  const double steps = std::fmax(static_cast<double>(quotient), -1000.0);
  if (!rounded) {
    result.zero_point = static_cast<int>(std::fmin(std::nearbyint(-steps), 15.0)) - 8;
    return result;
  }
  const auto difference = static_cast<float>(-8 - Step(coding.scale_dtype, steps));
  const double place = Step(coding.scale_dtype, static_cast<double>(difference));
  result.zero_point = static_cast<int>(std::nearbyint(std::clamp(place, -8.0, 7.0)));
  return result;
}

inline DefinedScale PowerOfTwo(int exponent) {
  return {.bits = static_cast<std::uint32_t>(exponent + 127), .acting = std::ldexp(1.0F, exponent)};
}

inline DefinedScale TwoLevels(const Coding& coding, int code, float tensor_scale) {
  const auto value = static_cast<float>(ValueOfCode(Element::kE4M3, code));
  return {.bits = static_cast<std::uint32_t>(code),
          .acting = coding.rule == ScaleRule::kTwoLevel ? value * tensor_scale : value / tensor_scale};
}

// The rule's scale (`factor` 1, `step` 0) or one of its neighbours.
inline DefinedScale DefineScale(const Coding& coding, float amax, float tensor_scale, float factor, int step) {
  int exponent = -127;
  switch (coding.rule) {
    case ScaleRule::kAmax:
      return AmaxScale(coding.scale_dtype, amax * factor, coding.bound);
    case ScaleRule::kPowerOfTwo:
      while (static_cast<double>(amax) > std::ldexp(static_cast<double>(coding.bound), exponent)) {
        ++exponent;
      }
      return PowerOfTwo(std::clamp(exponent + step, -127, 127));
    case ScaleRule::kPowerOfTwoRounded: {
      if (amax > 0) {
        const int up = std::ldexp(amax, -std::ilogb(amax)) >= 1.75F ? 1 : 0;
        exponent = std::max(std::ilogb(amax) + up - std::ilogb(coding.bound), -127);
      }
      return PowerOfTwo(std::clamp(exponent + step, -127, 127));
    }
    case ScaleRule::kTwoLevel:
    case ScaleRule::kTwoLevelReciprocal:
      break;
    case ScaleRule::kRange:
    case ScaleRule::kRangeRounded:
      return RangeScale(coding, -amax, amax);
  }
  const bool direct = coding.rule == ScaleRule::kTwoLevel;
  const float scale = direct ? amax / (coding.bound * tensor_scale) : (amax / coding.bound) * tensor_scale;
  const int zero = direct ? 0x38 : 0x20;
  const int code =
      amax == 0 ? zero : NearestCode(Element::kE4M3, std::clamp(static_cast<double>(scale), 0x1p-9, 448.0));
  return TwoLevels(coding, std::clamp(code + step, 1, 126), tensor_scale);
}

// Squares of a row's neighbours, summed up.
inline double SumOfSquares(std::span<const float> terms) {
  double sum = 0;
  for (std::size_t first = 0; first < terms.size(); first += 128) {
    const std::span<const float> chunk = terms.subspan(first, std::min<std::size_t>(128, terms.size() - first));
    std::array<float, 8> lanes{};
    for (std::size_t lane = 0; lane < 8; ++lane) {
      for (std::size_t i = lane; i < chunk.size(); i += 8) {
        lanes[lane] += chunk[i] * chunk[i];
      }
    }
    const float even = (lanes[0] + lanes[4]) + (lanes[2] + lanes[6]);
    const float odd = (lanes[1] + lanes[5]) + (lanes[3] + lanes[7]);
    sum += static_cast<double>(even + odd);
  }
  return sum;
}

class DefinitionQuantizer final : public engine::Quantizer {
 public:
  [[nodiscard]] std::string_view name() const override { return "definition"; }

  absl::StatusOr<engine::Measured> Measure(const engine::Values& values) override {
    engine::Measured measured;
    const std::vector<float> floats = FloatsOf(values);
    for (std::size_t i = floats.size(); i-- > 0;) {
      if (std::isfinite(floats[i])) {
        measured.amax = std::max(measured.amax, std::fabs(floats[i]));
      } else {
        measured.first_bad = static_cast<std::int64_t>(i);
      }
    }
    return measured;
  }

  absl::Status Quantize(const engine::QuantizeJob& job) override {
    const Coding& coding = job.coding;
    const std::vector<float> values = FloatsOf(job.values);
    const std::int64_t rows = job.values.rows;
    const std::int64_t columns = job.values.columns;
    std::vector<std::vector<std::size_t>> blocks(static_cast<std::size_t>(ScaleCount(coding, rows, columns)));
    std::vector<DefinedScale> scale(values.size(), DefinedScale{.acting = job.tensor_scale});
    for (std::size_t i = 0; i < values.size() && !blocks.empty(); ++i) {
      blocks[ScaleOf(job, i)].push_back(i);
    }
    for (std::size_t b = 0; b < blocks.size(); ++b) {
      const DefinedScale chosen = Choose(job, values, blocks[b], b);
      for (const std::size_t i : blocks[b]) {
        scale[i] = chosen;
      }
      if (!job.scales.empty()) {
        const auto bytes = static_cast<std::size_t>(engine::InfoOf(coding.scale_dtype).bytes);
        std::memcpy(job.scales.data() + b * bytes, &chosen.bits, bytes);
      }
      if (!job.zero_points.empty()) {
        job.zero_points[b] = static_cast<std::byte>(chosen.zero_point);
      }
    }
    std::fill(job.codes.begin(), job.codes.end(), std::byte{0});
    for (std::size_t i = 0; i < values.size() && !job.codes.empty(); ++i) {
      Pack(job, i, CodeOf(coding, values[i], scale[i]));
    }
    for (std::size_t row = 0; row < job.statistics.size(); ++row) {
      job.statistics[row] = StatisticsOf(job, row, values, scale);
    }
    return absl::OkStatus();
  }

  absl::Status SquaredErrors(const Coding& coding, const engine::Values& values, std::span<const float> scales,
                             std::span<double> errors) override {
    const std::vector<float> floats = FloatsOf(values);
    const auto columns = static_cast<std::size_t>(values.columns);
    for (std::size_t i = 0; i < errors.size(); ++i) {
      std::vector<float> terms(columns);
      for (std::size_t j = 0; j < columns; ++j) {
        terms[j] = ErrorOf(coding, floats[i / scales.size() * columns + j], {.acting = scales[i % scales.size()]});
      }
      errors[i] = SumOfSquares(terms);
    }
    return absl::OkStatus();
  }

 private:
  static std::uint8_t CodeOf(const Coding& coding, float value, const DefinedScale& scale) {
    const auto quotient = static_cast<double>(value / scale.acting);
    return HasZeroPoints(coding.rule) ? NearestCodeAbout(scale.zero_point, quotient)
                                      : NearestCode(coding.element, quotient);
  }

  // In scales.
  static double WorthOf(const Coding& coding, float value, const DefinedScale& scale) {
    return ValueOfCode(coding.element, CodeOf(coding, value, scale)) - scale.zero_point;
  }

  static float ErrorOf(const Coding& coding, float value, const DefinedScale& scale) {
    return value - static_cast<float>(WorthOf(coding, value, scale)) * scale.acting;
  }

  static std::size_t ScaleOf(const engine::QuantizeJob& job, std::size_t i) {
    const Coding& coding = job.coding;
    const auto columns = static_cast<std::size_t>(job.values.columns);
    const auto group = static_cast<std::size_t>(coding.group);
    const std::size_t row = i / columns;
    const std::size_t column = i % columns;
    switch (coding.sharing) {
      case Sharing::kSquare:
        return row / group * ((columns + group - 1) / group) + column / group;
      case Sharing::kGroup:
        return coding.packing == Packing::kWordsColumns || coding.packing == Packing::kWordsRows
                   ? column / group * static_cast<std::size_t>(job.values.rows) + row
                   : row * (columns / group) + column / group;
      default:
        return row;
    }
  }

  // The block's elements are in the order of rows.
  static double ErrorOfBlock(const engine::QuantizeJob& job, const std::vector<float>& values,
                             const std::vector<std::size_t>& block, const DefinedScale& scale) {
    double sum = 0;
    std::vector<float> terms;
    for (std::size_t i = 0; i < block.size(); ++i) {
      terms.push_back(ErrorOf(job.coding, values[block[i]], scale));
      if (i + 1 == block.size() || block[i + 1] != block[i] + 1 ||
          block[i + 1] % static_cast<std::size_t>(job.values.columns) == 0) {
        sum += SumOfSquares(terms);
        terms.clear();
      }
    }
    return sum;
  }

  static DefinedScale Choose(const engine::QuantizeJob& job, const std::vector<float>& values,
                             const std::vector<std::size_t>& block, std::size_t number) {
    const Coding& coding = job.coding;
    float low = 0;
    float high = 0;
    for (const std::size_t i : block) {
      low = std::min(low, values[i]);
      high = std::max(high, values[i]);
    }
    if (!job.amaxes.empty()) {
      high = job.amaxes[number];
      low = -high;
    }
    const float amax = std::max(-low, high);
    DefinedScale best =
        HasZeroPoints(coding.rule) ? RangeScale(coding, low, high) : DefineScale(coding, amax, job.tensor_scale, 1, 0);
    if (coding.search == engine::ScaleSearch::kAmax) {
      return best;
    }
    double least = ErrorOfBlock(job, values, block, best);
    const auto consider = [&](const DefinedScale& candidate) {
      const double error = ErrorOfBlock(job, values, block, candidate);
      if (error < least) {
        least = error;
        best = candidate;
      }
    };
    if (HasZeroPoints(coding.rule)) {
      for (const engine::RangeFactors& factors : engine::FactorsOfRanges()) {
        consider(RangeScale(coding, low * factors.low, high * factors.high));
      }
      return best;
    }
    const bool by_factor = coding.rule == ScaleRule::kAmax;
    const std::size_t count =
        by_factor ? engine::AmaxFactors(coding.element).size() : engine::CodeSteps(coding.element, coding.rule).size();
    for (std::size_t i = 0; i < count; ++i) {
      const float factor = by_factor ? engine::AmaxFactors(coding.element)[i] : 1;
      const int step = by_factor ? 0 : engine::CodeSteps(coding.element, coding.rule)[i];
      consider(DefineScale(coding, amax, job.tensor_scale, factor, step));
    }
    return best;
  }

  // Puts the code of element `i` where the packing has it: a number of bits from a bit on, little-endian throughout.
  static void Pack(const engine::QuantizeJob& job, std::size_t i, std::uint32_t code) {
    const Coding& coding = job.coding;
    const auto rows = static_cast<std::size_t>(job.values.rows);
    const auto columns = static_cast<std::size_t>(job.values.columns);
    const std::size_t n = i / columns;
    const std::size_t k = i % columns;
    const bool byte = coding.element == Element::kE4M3 || coding.element == Element::kInt8;
    const std::size_t bits = byte ? 8 : 4;
    switch (coding.packing) {
      case Packing::kBytes:
        return Put(job.codes, 8 * i, 8, code);
      case Packing::kNibblePairs:
        return Put(job.codes, 4 * i, 4, code);
      case Packing::kNibbleRows:
        return Put(job.codes, 8 * (n / 2 * columns + k) + 4 * (n % 2), 4, code);
      case Packing::kWords:
        return Put(job.codes, (n * ((columns * bits + 31) / 32)) * 32 + k * bits, bits, code + (byte ? 128 : 8));
      case Packing::kWordsColumns: {
        const std::array<std::size_t, 8> place = {0, 4, 1, 5, 2, 6, 3, 7};  // of 0 2 4 6 1 3 5 7
        return Put(job.codes, (k * (rows / 8) + n / 8) * 32 + 4 * place[n % 8], 4, code + 8);
      }
      case Packing::kWordsRows:
        return Put(job.codes, (k / 8 * rows + n) * 32 + 4 * (k % 8), 4, code + 8);
    }
  }

  static void Put(std::span<std::byte> bytes, std::size_t bit, std::size_t bits, std::uint32_t code) {
    for (std::size_t i = 0; i < bits; ++i) {
      if ((code >> i & 1) != 0) {
        bytes[(bit + i) / 8] |= std::byte{1} << ((bit + i) % 8);
      }
    }
  }

  static engine::RowStatistics StatisticsOf(const engine::QuantizeJob& job, std::size_t row,
                                            const std::vector<float>& values, const std::vector<DefinedScale>& scale) {
    const Element element = job.coding.element;
    const auto columns = static_cast<std::size_t>(job.values.columns);
    const double largest = element == Element::kE4M3   ? 448
                           : element == Element::kE2M1 ? 6
                           : element == Element::kInt8 ? 127
                                                       : 7;
    engine::RowStatistics statistics;
    std::vector<float> errors;
    for (std::size_t i = row * columns; i < (row + 1) * columns; ++i) {
      errors.push_back(ErrorOf(job.coding, values[i], scale[i]));
      const auto quotient = static_cast<double>(values[i] / scale[i].acting);
      statistics.amax = std::max(statistics.amax, std::fabs(values[i]));
      statistics.largest_error = std::max(statistics.largest_error, std::fabs(errors.back()));
      const int zero_point = scale[i].zero_point;
      const bool beyond = HasZeroPoints(job.coding.rule) ? quotient < -8 - zero_point || quotient > 7 - zero_point
                                                         : std::fabs(quotient) > largest;
      statistics.saturated += beyond ? 1 : 0;
      statistics.zeros += values[i] != 0 && WorthOf(job.coding, values[i], scale[i]) == 0 ? 1 : 0;
    }
    statistics.squared_error = SumOfSquares(errors);
    statistics.squared_value = SumOfSquares(std::span(values).subspan(row * columns, columns));
    return statistics;
  }
};

}  // namespace slipway::test
