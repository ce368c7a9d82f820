#include "client/terminal.h"

#include <algorithm>
#include <cstdlib>

#include <sys/ioctl.h>
#include <unistd.h>

#include <fmt/format.h>

namespace slipway {
namespace {

constexpr int kDefaultWidth = 80;

bool StartsCodePoint(char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) != 0x80U; }

// Set and not empty, as https://no-color.org wants it.
bool IsSet(const char* variable) {
  const char* value = std::getenv(variable);  // NOLINT(concurrency-mt-unsafe): nothing here sets the environment
  return value != nullptr && *value != '\0';
}

}  // namespace

Terminal DescribeTerminal(int file_descriptor) {
  Terminal terminal;
  terminal.is_terminal = isatty(file_descriptor) == 1;
  if (!terminal.is_terminal) {
    return terminal;
  }
  winsize size{};
  const bool known = ioctl(file_descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  terminal.width = known ? size.ws_col : kDefaultWidth;
  const char* kind = std::getenv("TERM");  // NOLINT(concurrency-mt-unsafe)
  terminal.color = !IsSet("NO_COLOR") && kind != nullptr && std::string_view(kind) != "dumb";
  return terminal;
}

std::string Printable(std::string_view text) {
  std::string result(text);
  for (std::size_t i = 0; i < result.size(); ++i) {
    const auto byte = static_cast<unsigned char>(result[i]);
    if (byte < 0x20 || byte == 0x7F) {
      result[i] = '?';
    } else if (byte == 0xC2 && i + 1 < result.size() && static_cast<unsigned char>(result[i + 1]) < 0xA0) {
      result.replace(i, 2, "?");  // U+0080 to U+009F: control characters of eight-bit terminals
    }
  }
  return result;
}

std::size_t DisplayWidth(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(text, StartsCodePoint));
}

std::string Truncate(std::string_view text, std::size_t columns) {
  if (DisplayWidth(text) <= columns) {
    return std::string(text);
  }
  if (columns == 0) {
    return "";
  }
  std::size_t end = 0;
  for (std::size_t kept = 0; end < text.size(); ++end) {
    if (StartsCodePoint(text[end]) && kept++ == columns - 1) {
      break;
    }
  }
  return std::string(text.substr(0, end)) + "…";
}

std::string Styled(const Terminal& terminal, std::string_view style, std::string_view text) {
  return terminal.color ? fmt::format("\033[{}m{}\033[0m", style, text) : std::string(text);
}

}  // namespace slipway
