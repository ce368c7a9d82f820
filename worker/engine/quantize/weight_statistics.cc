#include "worker/engine/quantize/weight_statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace slipway::engine {

void WeightStatistics::Add(std::span<const RowStatistics> rows, std::int64_t columns) {
  for (const RowStatistics& row : rows) {
    elements += columns;
    squared_error += row.squared_error;
    squared_value += row.squared_value;
    amax = std::max(amax, row.amax);
    largest_error = std::max(largest_error, row.largest_error);
    saturated += row.saturated;
    zeros += row.zeros;
  }
}

void WeightStatistics::Add(const WeightStatistics& other) {
  elements += other.elements;
  squared_error += other.squared_error;
  squared_value += other.squared_value;
  amax = std::max(amax, other.amax);
  largest_error = std::max(largest_error, other.largest_error);
  saturated += other.saturated;
  zeros += other.zeros;
}

double WeightStatistics::RelativeError() const {
  return squared_value > 0 ? std::sqrt(squared_error / squared_value) : 0;
}

double WeightStatistics::SignalToQuantizationNoise() const {
  return squared_error > 0 ? 10 * std::log10(squared_value / squared_error) : std::numeric_limits<double>::infinity();
}

nlohmann::ordered_json StatisticsToJson(const WeightStatistics& statistics) {
  return {{"elements", statistics.elements},
          {"squared_error", statistics.squared_error},
          {"squared_value", statistics.squared_value},
          {"amax", statistics.amax},
          {"largest_error", statistics.largest_error},
          {"saturated", statistics.saturated},
          {"zeros", statistics.zeros}};
}

WeightStatistics StatisticsFromJson(const nlohmann::json& json) {
  return {.elements = json.at("elements"),
          .squared_error = json.at("squared_error"),
          .squared_value = json.at("squared_value"),
          .amax = json.at("amax"),
          .largest_error = json.at("largest_error"),
          .saturated = json.at("saturated"),
          .zeros = json.at("zeros")};
}

}  // namespace slipway::engine
