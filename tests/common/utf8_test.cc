#include "common/utf8.h"

#include <gtest/gtest.h>

namespace slipway {
namespace {

TEST(Utf8, TheLastOfEachLengthIsTakenAndTheNextIsNot) {
  for (const char* text : {"", "\x7F", "\xDF\xBF", "\xEF\xBF\xBF", "\xF4\x8F\xBF\xBF", "\xED\x9F\xBF", "a\xC3\xA4z"}) {
    EXPECT_TRUE(IsUtf8(text)) << text;
  }
  for (const char* text : {"\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
                           "\xC3", "\xE2\x82", "\xF0\x9F\x98", "\xC3z", "a\xFF"}) {
    EXPECT_FALSE(IsUtf8(text)) << text;
  }
}

}  // namespace
}  // namespace slipway
