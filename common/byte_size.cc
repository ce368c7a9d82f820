#include "common/byte_size.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <limits>
#include <optional>
#include <system_error>

#include <fmt/format.h>

#include "common/checked_math.h"
#include "common/error.h"

namespace slipway {
namespace {

struct Unit {
  std::string_view name;  // lower case
  std::int64_t bytes;
};

constexpr std::int64_t kKibi = 1024;
constexpr std::array kUnits = std::to_array<Unit>({
    {"", 1},
    {"b", 1},
    {"kb", 1'000},
    {"mb", 1'000'000},
    {"gb", 1'000'000'000},
    {"tb", 1'000'000'000'000},
    {"kib", kKibi},
    {"mib", kKibi* kKibi},
    {"gib", kKibi* kKibi* kKibi},
    {"tib", kKibi* kKibi* kKibi* kKibi},
});

// Digits after the point that can matter below 2^63; more are refused rather than dropped.
constexpr std::size_t kMaximumFractionDigits = 12;

std::optional<std::int64_t> ParseDigits(std::string_view digits) {
  std::int64_t value = 0;
  if (digits.empty() || !std::ranges::all_of(digits, [](char c) { return c >= '0' && c <= '9'; })) {
    return std::nullopt;
  }
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return error == std::errc() ? std::optional(value) : std::nullopt;
}

std::optional<std::int64_t> UnitBytes(std::string_view name) {
  std::string lower(name);
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const auto* unit = std::ranges::find(kUnits, std::string_view(lower), &Unit::name);
  return unit == kUnits.end() ? std::nullopt : std::optional(unit->bytes);
}

// Whole bytes of 0.`digits` units.
std::optional<std::int64_t> FractionBytes(std::string_view digits, std::int64_t unit) {
  if (digits.size() > kMaximumFractionDigits) {
    return std::nullopt;
  }
  const auto numerator = ParseDigits(digits);
  if (!numerator) {
    return std::nullopt;
  }
  std::int64_t denominator = 1;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    denominator *= 10;
  }
  __extension__ using Wide = __int128;
  return static_cast<std::int64_t>(static_cast<Wide>(*numerator) * unit / denominator);
}

std::optional<std::int64_t> Parse(std::string_view text) {
  const std::size_t number_end = std::min(text.find_first_not_of("0123456789."), text.size());
  const std::string_view number = text.substr(0, number_end);
  std::string_view unit_name = text.substr(number_end);
  if (unit_name.size() > 1 && unit_name.front() == ' ') {
    unit_name.remove_prefix(1);
  }
  const auto unit = UnitBytes(unit_name);
  const std::size_t point = number.find('.');
  const auto whole = ParseDigits(number.substr(0, point));
  if (!unit || !whole) {
    return std::nullopt;
  }
  const auto bytes = CheckedMultiply(*whole, *unit);
  if (!bytes || point == std::string_view::npos) {
    return bytes;
  }
  const auto fraction = unit_name.empty() ? std::nullopt : FractionBytes(number.substr(point + 1), *unit);
  return fraction ? CheckedAdd(*bytes, *fraction) : std::nullopt;
}

}  // namespace

absl::StatusOr<std::int64_t> ParseByteSize(std::string_view text) {
  if (const auto bytes = Parse(text)) {
    return *bytes;
  }
  return Error(Reason::kInvalidArgument,
               fmt::format("\"{}\" is not a size; write for example 8GiB, 512MiB, 5GB or a number of bytes", text));
}

std::string FormatByteSize(std::int64_t bytes) {
  constexpr std::array<std::string_view, 7> kNames = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  // 999.5 would be printed as 1e+03.
  while ((value >= 999.5 || value <= -999.5) && unit + 1 < kNames.size()) {
    value /= static_cast<double>(kKibi);
    ++unit;
  }
  return fmt::format("{:.3g} {}", value, kNames[unit]);
}

}  // namespace slipway
