#include "worker/engine/write/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/error.h"

namespace slipway::engine {
namespace {

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

}  // namespace
}  // namespace slipway::engine
