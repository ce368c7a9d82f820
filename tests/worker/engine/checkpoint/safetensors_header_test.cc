#include "worker/engine/checkpoint/safetensors_header.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "common/error.h"

namespace slipway::engine {
namespace {

// A file of this JSON, followed by `data` bytes.
std::string File(const std::string& json, std::size_t data) {
  const std::uint64_t length = json.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + json + std::string(data, 'x');
}

absl::StatusOr<SafetensorsHeader> Parse(const std::string& file) {
  return ParseSafetensorsHeader(file, static_cast<std::int64_t>(file.size()), "f");
}

TEST(SafetensorsHeader, LiesInAHeaderAreRefused) {
  const std::vector<std::pair<std::string, std::size_t>> cases = {
      {R"({"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,6]}})", 6},  // size against shape
      {R"({"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}})", 5},  // bytes behind
      {R"({"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}})", 3},  // past the end
      {R"({"a":{"dtype":"BF16","shape":[2],"data_offsets":[2,6]}})", 6},  // a hole before
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
       3},  // overlap
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
       4},                                                                                  // twice
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[2,0]}})", 2},                      // backwards
      {R"({"a":{"dtype":"U8","shape":[-2],"data_offsets":[0,2]}})", 2},                     // negative
      {R"({"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0},  // overflow
      {R"({"a":{"dtype":"U8","shape":[99999999999999999999],"data_offsets":[0,2]}})", 2},   // not a number of 64 bits
      {R"({"a":{"dtype":"U8","shape":[2.5],"data_offsets":[0,2]}})", 2},                    // a fraction
      {R"({"a":{"dtype":"Q7","shape":[2],"data_offsets":[0,2]}})", 2},                      // unknown dtype
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0]}})", 2},                        // one offset
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,1,2]}})", 2},                    // three
      {R"({"a":{"dtype":"U8","shape":[[2]],"data_offsets":[0,2]}})", 2},                    // nested
      {R"({"a":{"dtype":"U8","dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 2},         // a field twice
      {R"({"a":{"dtype":"U8","shape":[2]}})", 2},                                           // a field missing
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2],"x":1}})", 2},                // a field too many
      {R"({"a":7})", 0},
      {R"([1])", 0},
      {R"({"a":)", 0},
      {R"()", 0},
  };
  for (const auto& [json, data] : cases) {
    const auto header = Parse(File(json, data));
    EXPECT_EQ(ReasonOf(header.status()), Reason::kCheckpointCorrupt) << json;
    EXPECT_EQ(WhereOf(header.status()).file, "f") << json;
  }
}

TEST(SafetensorsHeader, EveryDTypeOfTheFormatThatFillsBytesIsRead) {
  // Name and bytes, as the format's own documentation has them.
  const std::vector<std::pair<std::string, std::size_t>> dtypes = {
      {"BOOL", 1},        {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"F8_E8M0", 1}, {"F8_E4M3FNUZ", 1},
      {"F8_E5M2FNUZ", 1}, {"I16", 2}, {"U16", 2}, {"F16", 2},     {"BF16", 2},    {"I32", 4},     {"U32", 4},
      {"F32", 4},         {"I64", 8}, {"U64", 8}, {"F64", 8},     {"C64", 8}};
  for (const auto& [name, bytes] : dtypes) {
    const std::string text =
        fmt::format(R"({{"a":{{"dtype":"{}","shape":[3],"data_offsets":[0,{}]}}}})", name, 3 * bytes);
    const auto header = Parse(File(text, 3 * bytes));
    ASSERT_TRUE(header.ok()) << name << Describe(header.status());
    EXPECT_EQ(InfoOf(header->entries[0].dtype).safetensors_name, name);
  }
}

TEST(SafetensorsHeader, ADTypeOfHalfBytesIsRefusedByName) {
  const absl::Status status = Parse(File(R"({"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}})", 1)).status();
  EXPECT_NE(status.message().find("F4"), std::string_view::npos) << status;
  EXPECT_EQ(WhereOf(status).tensor, "a");
}

TEST(SafetensorsHeader, ALengthThatCannotBeIsRefusedBeforeAnythingIsRead) {
  std::string file(16, '\xff');
  EXPECT_EQ(ReasonOf(Parse(file).status()), Reason::kLimitExceeded);
  const std::uint64_t past_end = 9;
  std::memcpy(file.data(), &past_end, 8);
  EXPECT_EQ(ReasonOf(Parse(file).status()), Reason::kCheckpointCorrupt);
  EXPECT_EQ(ReasonOf(Parse("short").status()), Reason::kCheckpointCorrupt);
}

TEST(SafetensorsHeader, DeepNestingIsRefusedWithoutRecursion) {
  EXPECT_EQ(ReasonOf(Parse(File(R"({"a":)" + std::string(1'000'000, '['), 0)).status()), Reason::kCheckpointCorrupt);
}

}  // namespace
}  // namespace slipway::engine
