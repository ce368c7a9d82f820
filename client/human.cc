#include "client/human.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

#include <fmt/format.h>

namespace slipway {
namespace {

// `value` scaled below 1000 with three significant digits, and the unit that goes with it.
template <std::size_t kUnits>
std::string Scaled(double value, const std::array<std::string_view, kUnits>& units) {
  std::size_t unit = 0;
  while (value >= 999.5 && unit + 1 < kUnits) {
    value /= 1000;
    ++unit;
  }
  const int digits = unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return fmt::format("{:.{}f}{}", value, digits, units[unit]);
}

}  // namespace

std::string HumanBytes(std::int64_t bytes) {
  static constexpr std::array<std::string_view, 7> kUnits{" B", " kB", " MB", " GB", " TB", " PB", " EB"};
  return Scaled(static_cast<double>(std::max<std::int64_t>(bytes, 0)), kUnits);
}

std::string HumanCount(std::int64_t count) {
  std::string digits = std::to_string(count);
  const std::size_t first = count < 0 ? 1 : 0;
  for (std::size_t position = digits.size(); position > first + 3;) {
    position -= 3;
    digits.insert(position, 1, ',');
  }
  return digits;
}

std::string HumanCount(std::int64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", HumanCount(count), noun, count == 1 ? "" : "s");
}

std::string HumanParameters(std::int64_t parameters) {
  static constexpr std::array<std::string_view, 5> kUnits{"", "K", "M", "B", "T"};
  return Scaled(static_cast<double>(std::max<std::int64_t>(parameters, 0)), kUnits);
}

std::string HumanDuration(double seconds) {
  seconds = std::isfinite(seconds) ? std::clamp(seconds, 0.0, 1e12) : 0;
  if (seconds < 9.95) {
    return fmt::format("{:.1f} s", seconds);
  }
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  if (whole < 60) {
    return fmt::format("{} s", whole);
  }
  if (whole < 3600) {
    return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  }
  if (whole < 86400) {
    return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
  }
  return fmt::format("{} d {:02} h", whole / 86400, whole / 3600 % 24);
}

std::string HumanRate(double bytes_per_second) {
  const double bounded = std::isfinite(bytes_per_second) ? std::clamp(bytes_per_second, 0.0, 1e18) : 0;
  return HumanBytes(static_cast<std::int64_t>(bounded)) + "/s";
}

}  // namespace slipway
