#include "common/byte_size.h"

#include <limits>
#include <string>

#include <gtest/gtest.h>

#include "common/error.h"

namespace slipway {
namespace {

TEST(ByteSize, APlainNumberIsBytes) {
  EXPECT_EQ(ParseByteSize("0").value(), 0);
  EXPECT_EQ(ParseByteSize("1048576").value(), 1048576);
  EXPECT_EQ(ParseByteSize("9223372036854775807").value(), std::numeric_limits<std::int64_t>::max());
}

TEST(ByteSize, BinaryAndDecimalUnitsDiffer) {
  EXPECT_EQ(ParseByteSize("8GiB").value(), std::int64_t{8} << 30);
  EXPECT_EQ(ParseByteSize("512MiB").value(), std::int64_t{512} << 20);
  EXPECT_EQ(ParseByteSize("5GB").value(), 5'000'000'000);
  EXPECT_EQ(ParseByteSize("64kB").value(), 64'000);
  EXPECT_EQ(ParseByteSize("64KiB").value(), 65'536);
  EXPECT_EQ(ParseByteSize("7TiB").value(), std::int64_t{7} << 40);
  EXPECT_EQ(ParseByteSize("12 B").value(), 12);
}

TEST(ByteSize, UnitsAreReadWithoutRegardToCase) {
  EXPECT_EQ(ParseByteSize("1gib").value(), std::int64_t{1} << 30);
  EXPECT_EQ(ParseByteSize("1 GIB").value(), std::int64_t{1} << 30);
}

TEST(ByteSize, AFractionOfAUnitIsRoundedDownToWholeBytes) {
  EXPECT_EQ(ParseByteSize("1.5GiB").value(), std::int64_t{3} << 29);
  EXPECT_EQ(ParseByteSize("0.0015kB").value(), 1);
}

TEST(ByteSize, WhatIsNotASizeIsRefusedAndQuoted) {
  for (const char* text : {"", "GiB", "-1", "-1GiB", "+1", "1e9", "1.5", "1..5GB", "1.GB", ".5GB", "8 XB", "8GiB ",
                           " 8GiB", "0x10", "1 ", "9223372036854775808", "9223372036854775807kB", "8388608.5TiB"}) {
    const auto parsed = ParseByteSize(text);
    ASSERT_FALSE(parsed.ok()) << '"' << text << '"';
    EXPECT_EQ(ReasonOf(parsed.status()), Reason::kInvalidArgument);
    EXPECT_NE(std::string(parsed.status().message()).find('"' + std::string(text) + '"'), std::string::npos);
  }
}

TEST(ByteSize, PeopleSeeThreeDigitsAndAUnit) {
  EXPECT_EQ(FormatByteSize(0), "0 B");
  EXPECT_EQ(FormatByteSize(512), "512 B");
  EXPECT_EQ(FormatByteSize(1000), "0.977 KiB");
  EXPECT_EQ(FormatByteSize(std::int64_t{8} << 30), "8 GiB");
  EXPECT_EQ(FormatByteSize(2'970'000'000), "2.77 GiB");
  EXPECT_EQ(FormatByteSize(std::numeric_limits<std::int64_t>::max()), "8 EiB");
}

}  // namespace
}  // namespace slipway
