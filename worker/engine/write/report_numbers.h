// Numbers that follow from sums, as manifest and quality report have them.
#pragma once

#include <charconv>
#include <cmath>
#include <string>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace slipway::engine {

// Six digits of it, whatever the mathematics library makes of the last ones; null where it is infinite.
inline nlohmann::ordered_json RoundedNumber(double value) {
  if (!std::isfinite(value)) {
    return nullptr;
  }
  const std::string text = fmt::format("{:.6g}", value);
  double rounded = 0;
  std::from_chars(text.data(), text.data() + text.size(), rounded);
  return rounded;
}

}  // namespace slipway::engine
