// Whether two Quantizers do the same with a job, to the bit.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/worker/engine/quantize/vectors.h"

namespace slipway::test {

// Outputs that are wanted, as bits.
inline constexpr int kCodes = 1;
inline constexpr int kScales = 2;
inline constexpr int kStatistics = 4;
inline constexpr int kZeroPoints = 8;  // of codings that have them
inline constexpr int kAllOutputs = 15;

// What a Quantizer made, with what lies around it, which it must not touch; one byte off any alignment.
struct GuardedOutputs {
  static constexpr std::size_t kGuard = 65;
  std::string codes;
  std::string scales;
  std::string zero_points;
  std::vector<engine::RowStatistics> statistics;
  bool operator==(const GuardedOutputs&) const = default;
};

inline GuardedOutputs MakeGuarded(engine::Quantizer& quantizer, engine::QuantizeJob job, int outputs) {
  const engine::Values& values = job.values;
  const auto of = [](std::string& guarded) {
    return std::as_writable_bytes(std::span(guarded))
        .subspan(GuardedOutputs::kGuard, guarded.size() - 2 * GuardedOutputs::kGuard);
  };
  GuardedOutputs made;
  const std::int64_t scale_bytes =
      ScaleCount(job.coding, values.rows, values.columns) * engine::InfoOf(job.coding.scale_dtype).bytes;
  made.codes.assign(
      static_cast<std::size_t>(CodeBytes(job.coding, values.rows, values.columns)) + 2 * GuardedOutputs::kGuard,
      '\x5A');
  made.scales.assign(static_cast<std::size_t>(scale_bytes) + 2 * GuardedOutputs::kGuard, '\x5A');
  const bool has_zero_points = HasZeroPoints(job.coding.rule);
  const std::int64_t zero_points = has_zero_points ? ScaleCount(job.coding, values.rows, values.columns) : 0;
  made.zero_points.assign(static_cast<std::size_t>(zero_points) + 2 * GuardedOutputs::kGuard, '\x5A');
  made.statistics.resize(static_cast<std::size_t>(values.rows));
  job.codes = (outputs & kCodes) != 0 ? of(made.codes) : std::span<std::byte>();
  job.scales = (outputs & kScales) != 0 ? of(made.scales) : std::span<std::byte>();
  job.zero_points = has_zero_points && (outputs & kZeroPoints) != 0 ? of(made.zero_points) : std::span<std::byte>();
  job.statistics = (outputs & kStatistics) != 0 ? std::span(made.statistics) : std::span<engine::RowStatistics>();
  EXPECT_TRUE(quantizer.Quantize(job).ok());
  return made;
}

// Fails with the first difference.
inline void ExpectSame(engine::Quantizer& expected, engine::Quantizer& actual, const engine::QuantizeJob& job,
                       int outputs = kAllOutputs) {
  ASSERT_TRUE(CanCode(job.coding, job.values.rows, job.values.columns));
  const GuardedOutputs left = MakeGuarded(expected, job, outputs);
  const GuardedOutputs right = MakeGuarded(actual, job, outputs);
  for (std::size_t i = 0; i < left.scales.size(); ++i) {
    ASSERT_EQ(static_cast<int>(left.scales[i]), static_cast<int>(right.scales[i]))
        << "byte " << static_cast<std::int64_t>(i - GuardedOutputs::kGuard) << " of the scales";
  }
  for (std::size_t i = 0; i < left.zero_points.size(); ++i) {
    ASSERT_EQ(static_cast<int>(left.zero_points[i]), static_cast<int>(right.zero_points[i]))
        << "zero point " << static_cast<std::int64_t>(i - GuardedOutputs::kGuard);
  }
  for (std::size_t i = 0; i < left.codes.size(); ++i) {
    ASSERT_EQ(static_cast<int>(left.codes[i]), static_cast<int>(right.codes[i]))
        << "byte " << static_cast<std::int64_t>(i - GuardedOutputs::kGuard) << " of the codes";
  }
  for (std::size_t i = 0; i < left.statistics.size(); ++i) {
    const engine::RowStatistics& a = left.statistics[i];
    const engine::RowStatistics& b = right.statistics[i];
    ASSERT_EQ(a.squared_error, b.squared_error) << "of row " << i;
    ASSERT_EQ(a.squared_value, b.squared_value) << "of row " << i;
    ASSERT_EQ(a.amax, b.amax) << "of row " << i;
    ASSERT_EQ(a.largest_error, b.largest_error) << "of row " << i;
    ASSERT_EQ(a.saturated, b.saturated) << "of row " << i;
    ASSERT_EQ(a.zeros, b.zeros) << "of row " << i;
  }
}

}  // namespace slipway::test
