#include "worker/engine/write/quality_text.h"

#include <array>
#include <cmath>

#include <fmt/format.h>

namespace slipway::engine {
namespace {

// Bytes of the well-formed UTF-8 sequence at the front of `text`, 0 where there is none.
std::size_t SequenceLength(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(0);
  const std::size_t length = first < 0x80   ? 1
                             : first < 0xC2 ? 0
                             : first < 0xE0 ? 2
                             : first < 0xF0 ? 3
                             : first < 0xF5 ? 4
                                            : 0;
  if (length == 0 || length > text.size()) {
    return 0;
  }
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) {
      return 0;
    }
  }
  // Overlong forms, surrogates, beyond the last code point, and U+FFFE and U+FFFF, which XML has not.
  const bool bad = (first == 0xE0 && byte(1) < 0xA0) || (first == 0xED && byte(1) > 0x9F) ||
                   (first == 0xF0 && byte(1) < 0x90) || (first == 0xF4 && byte(1) > 0x8F) ||
                   (first == 0xEF && byte(1) == 0xBF && byte(2) >= 0xBE);
  return bad ? 0 : length;
}

}  // namespace

std::string Escaped(std::string_view text) {
  std::string escaped;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = SequenceLength(text.substr(i));
    const char c = text[i];
    if (length == 0 || (length == 1 && (c < ' ' || c == '\x7F'))) {
      escaped += '?';
      ++i;
      continue;
    }
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += text.substr(i, length);
    }
    i += length;
  }
  return escaped;
}

std::vector<std::string_view> SplitAtDots(std::string_view name) {
  std::vector<std::string_view> words;
  while (true) {
    const std::size_t dot = name.find('.');
    words.push_back(name.substr(0, dot));
    if (dot == std::string_view::npos) {
      return words;
    }
    name.remove_prefix(dot + 1);
  }
}

std::string_view Tail(std::string_view name, std::size_t most) {
  return name.size() <= most ? name : name.substr(name.size() - most);
}

std::string Decibels(double value) { return std::isfinite(value) ? fmt::format("{:.2f} dB", value) : "exact"; }

std::string Percent(double share) {
  constexpr double kHundred = 100;
  const double percent = share * kHundred;
  return percent != 0 && percent < 0.01 ? fmt::format("{:.1e} %", percent) : fmt::format("{:.2f} %", percent);
}

std::string Count(std::int64_t value) {
  std::string text = std::to_string(value);
  for (std::size_t at = text.size(); at > 3;) {
    at -= 3;
    text.insert(at, 1, ',');
  }
  return text;
}

std::string ByteCount(std::int64_t bytes) {
  constexpr std::array<std::string_view, 5> kUnits = {"kB", "MB", "GB", "TB", "PB"};
  constexpr double kThousand = 1000;
  if (bytes < 1000) {
    return fmt::format("{} B", bytes);
  }
  auto value = static_cast<double>(bytes) / kThousand;
  std::size_t unit = 0;
  for (; value >= kThousand && unit + 1 < kUnits.size(); ++unit) {
    value /= kThousand;
  }
  return fmt::format("{:.{}f} {}", value, value < 10 ? 2 : value < 100 ? 1 : 0, kUnits[unit]);
}

std::string Significant(double value) { return fmt::format("{:.3g}", value); }

std::string Coordinate(double value) { return fmt::format("{:.1f}", value); }

}  // namespace slipway::engine
