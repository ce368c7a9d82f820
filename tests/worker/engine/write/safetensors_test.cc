#include "worker/engine/write/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

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

TEST(Safetensors, WhatIsWrittenIsReadBack) {
  std::vector<SafetensorsEntry> entries = {{.name = "a \"quoted\" näme", .dtype = DType::kBF16, .shape = {2, 3}},
                                           {.name = "scalar", .dtype = DType::kF32, .shape = {}},
                                           {.name = "empty", .dtype = DType::kF16, .shape = {0, 5}},
                                           {.name = "b", .dtype = DType::kF8E4M3, .shape = {7}}};
  const auto header = MakeSafetensorsHeader(entries);
  ASSERT_TRUE(header.ok());
  EXPECT_EQ(header->size() % 64, 0U);
  EXPECT_EQ(entries[1].begin, 12);
  EXPECT_EQ(entries[3].end, 12 + 4 + 0 + 7);
  const auto read = Parse(*header + std::string(23, 'x'));
  ASSERT_TRUE(read.ok()) << Describe(read.status());
  EXPECT_EQ(read->data_position, static_cast<std::int64_t>(header->size()));
  ASSERT_EQ(read->entries.size(), 4U);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(read->entries[i].name, entries[i].name);
    EXPECT_EQ(read->entries[i].dtype, entries[i].dtype);
    EXPECT_EQ(read->entries[i].shape, entries[i].shape);
    EXPECT_EQ(read->entries[i].begin, entries[i].begin);
    EXPECT_EQ(read->entries[i].end, entries[i].end);
  }
}

TEST(Safetensors, TheHeaderIsTheJsonOfTheFormat) {
  std::vector<SafetensorsEntry> entries = {{.name = "w", .dtype = DType::kBF16, .shape = {2, 3}}};
  const auto header = MakeSafetensorsHeader(entries);
  ASSERT_TRUE(header.ok());
  const auto json = nlohmann::json::parse(header->substr(8));
  EXPECT_EQ(json, nlohmann::json::parse(
                      R"({"__metadata__":{"format":"pt"},"w":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}})"));
}

TEST(Safetensors, ATensorTooLargeForTheFormatIsRefused) {
  std::vector<SafetensorsEntry> entries = {{.name = "w", .dtype = DType::kF32, .shape = {1LL << 31, 1LL << 31}}};
  EXPECT_EQ(ReasonOf(MakeSafetensorsHeader(entries).status()), Reason::kLimitExceeded);
}

TEST(Safetensors, LiesInAHeaderAreRefused) {
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

TEST(Safetensors, ALengthThatCannotBeIsRefusedBeforeAnythingIsRead) {
  std::string file(16, '\xff');
  EXPECT_EQ(ReasonOf(Parse(file).status()), Reason::kLimitExceeded);
  const std::uint64_t past_end = 9;
  std::memcpy(file.data(), &past_end, 8);
  EXPECT_EQ(ReasonOf(Parse(file).status()), Reason::kCheckpointCorrupt);
  EXPECT_EQ(ReasonOf(Parse("short").status()), Reason::kCheckpointCorrupt);
}

TEST(Safetensors, DeepNestingIsRefusedWithoutRecursion) {
  EXPECT_EQ(ReasonOf(Parse(File(R"({"a":)" + std::string(1'000'000, '['), 0)).status()), Reason::kCheckpointCorrupt);
}

}  // namespace
}  // namespace slipway::engine
