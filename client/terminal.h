// What the program writes to: a terminal of some width, or a file.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace slipway {

struct Terminal {
  bool is_terminal = false;
  int width = 0;  // columns; 0: unlimited (not a terminal)
  bool color = false;
};

// Looks at a file descriptor and at the environment (NO_COLOR, TERM).
Terminal DescribeTerminal(int file_descriptor);

// Text from outside (tensor names, paths, messages) made harmless: control characters become '?', so that nothing
// that a checkpoint or server says can move the cursor or recolour the screen.
std::string Printable(std::string_view text);

// Number of columns of UTF-8 text, one a code point.
std::size_t DisplayWidth(std::string_view text);

// At most `columns` columns of `text`; what was cut is shown as "…".
std::string Truncate(std::string_view text, std::size_t columns);

// `text` in an ANSI style ("1": bold, "31": red) where the terminal has colours.
std::string Styled(const Terminal& terminal, std::string_view style, std::string_view text);

}  // namespace slipway
