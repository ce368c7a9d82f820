#include "client/terminal.h"

#include <gtest/gtest.h>

namespace slipway {
namespace {

TEST(Terminal, TextFromOutsideCannotMoveTheCursor) {
  EXPECT_EQ(Printable("a\033[2Jb\r\n\tc\x7F"), "a?[2Jb???c?");
  EXPECT_EQ(Printable("\xC2\x9B"
                      "2J"),
            "?2J");  // CSI as one code point
}

TEST(Terminal, OtherTextStaysAsItIs) { EXPECT_EQ(Printable("größe 模型"), "größe 模型"); }

TEST(Terminal, WidthCountsCodePoints) {
  EXPECT_EQ(DisplayWidth("größe"), 5U);
  EXPECT_EQ(DisplayWidth(""), 0U);
}

TEST(Terminal, WhatIsCutIsMarked) {
  EXPECT_EQ(Truncate("abcdef", 6), "abcdef");
  EXPECT_EQ(Truncate("abcdef", 4), "abc…");
  EXPECT_EQ(Truncate("äöüß", 3), "äö…");
  EXPECT_EQ(Truncate("abc", 1), "…");
  EXPECT_EQ(Truncate("abc", 0), "");
}

TEST(Terminal, StylesNeedColour) {
  EXPECT_EQ(Styled({.is_terminal = true, .width = 80, .color = true}, "31", "x"), "\033[31mx\033[0m");
  EXPECT_EQ(Styled({.is_terminal = true, .width = 80, .color = false}, "31", "x"), "x");
}

}  // namespace
}  // namespace slipway
