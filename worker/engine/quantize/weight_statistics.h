// What quantization did to a weight: the sums of its rows.
#pragma once

#include <cstdint>
#include <span>

#include <nlohmann/json.hpp>

#include "worker/engine/quantize/quantizer.h"

namespace slipway::engine {

struct WeightStatistics {
  std::int64_t elements = 0;
  double squared_error = 0;
  double squared_value = 0;
  float amax = 0;
  float largest_error = 0;
  std::int64_t saturated = 0;
  std::int64_t zeros = 0;

  // Adds rows of `columns` elements. Rows are added in their order: then the sums depend on nothing else.
  void Add(std::span<const RowStatistics> rows, std::int64_t columns);

  // Adds another weight's.
  void Add(const WeightStatistics& other);

  [[nodiscard]] double RelativeError() const;              // Frobenius; 0 for a weight of zeros
  [[nodiscard]] double SignalToQuantizationNoise() const;  // in dB; infinite where there is no error
  bool operator==(const WeightStatistics&) const = default;
};

// {"elements", "squared_error", "squared_value", "amax", "largest_error", "saturated", "zeros"}: exact.
nlohmann::ordered_json StatisticsToJson(const WeightStatistics& statistics);
// Throws nlohmann::json::exception for anything else.
WeightStatistics StatisticsFromJson(const nlohmann::json& json);

}  // namespace slipway::engine
