#include "worker/engine/checkpoint/yaml_document.h"

#include <string>

#include <gtest/gtest.h>

#include "common/error.h"

namespace slipway::engine {
namespace {

using nlohmann::json;

json Parsed(const std::string& text) {
  auto document = ParseYaml(text, "a.yaml");
  return document.ok() ? *std::move(document) : json(Describe(document.status()));
}

Reason Refusal(const std::string& text) { return ReasonOf(ParseYaml(text, "a.yaml").status()); }

TEST(Yaml, PlainScalarsAreWhatTheyLookLike) {
  EXPECT_EQ(Parsed("[1, -2, 0x10, 1.5, 1.0e-05, 1e-05, true, False, null, ~, relu, 1.2.3]"),
            json::array({1, -2, 16, 1.5, 1e-5, 1e-5, true, false, nullptr, nullptr, "relu", "1.2.3"}));
  EXPECT_EQ(Parsed("[.inf, -.inf, .nan]"), json::array({"Infinity", "-Infinity", "NaN"}));
  EXPECT_EQ(Parsed("a:\n"), json({{"a", nullptr}}));
}

TEST(Yaml, QuotedScalarsAreText) {
  EXPECT_EQ(Parsed("['1', \"true\", '', !!str 7]"), json::array({"1", "true", "", "7"}));
}

TEST(Yaml, MappingsAndSequencesNest) {
  EXPECT_EQ(Parsed("a:\n  b: [1, {c: 2}]\n  d:\n  - 3\n"), (json{{"a", {{"b", {1, {{"c", 2}}}}, {"d", {3}}}}}));
}

TEST(Yaml, TagsMakeNoObjects) {
  EXPECT_EQ(Parsed("!!python/object:os.system {a: 1}"), json({{"a", 1}}));
  EXPECT_EQ(Parsed("!!set {a: null}"), json({{"a", nullptr}}));
  EXPECT_EQ(Parsed("!!python/tuple [1, 2]"), json::array({1, 2}));
}

TEST(Yaml, AnAliasIsACopy) { EXPECT_EQ(Parsed("a: &x [1]\nb: *x\n"), (json{{"a", {1}}, {"b", {1}}})); }

TEST(Yaml, AliasesThatUnfoldWithoutEndAreRefused) {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 10; ++j) {
      text += before + (j < 9 ? ", " : "]\n");
    }
  }
  EXPECT_EQ(Refusal(text), Reason::kLimitExceeded);
}

TEST(Yaml, AliasesOfLongTextAreRefused) {
  std::string text = "- &a \"" + std::string(1 << 20, 'x') + "\"\n";
  for (int i = 0; i < 1'000; ++i) {
    text += "- *a\n";
  }
  EXPECT_EQ(Refusal(text), Reason::kLimitExceeded);
}

TEST(Yaml, AliasesDoNotNestDeeperThanTheLimit) {
  std::string text = "- &a0 [[[[[[[[1]]]]]]]]\n";
  for (int i = 1; i < 6; ++i) {
    text += "- &a" + std::to_string(i) + " [[[[[[[[*a" + std::to_string(i - 1) + "]]]]]]]]\n";
  }
  EXPECT_EQ(Refusal(text), Reason::kLimitExceeded);
}

TEST(Yaml, AnAliasOfWhatHoldsItIsRefused) { EXPECT_EQ(Refusal("&a [*a]"), Reason::kCheckpointCorrupt); }

TEST(Yaml, DepthValuesAndBytesAreLimited) {
  EXPECT_EQ(Refusal(std::string(40, '[') + std::string(40, ']')), Reason::kLimitExceeded);
  EXPECT_EQ(Refusal(std::string(100'000, '[') + std::string(100'000, ']')), Reason::kLimitExceeded);
  std::string many = "[";
  for (int i = 0; i < 210'000; ++i) {
    many += "1,";
  }
  EXPECT_EQ(Refusal(many + "]"), Reason::kLimitExceeded);
  EXPECT_EQ(Refusal(std::string(5 << 20, ' ')), Reason::kLimitExceeded);
}

TEST(Yaml, WhatIsNoYamlIsRefusedWithFileAndOffset) {
  const auto document = ParseYaml("a: [1, 2\nb: }", "a.yaml");
  EXPECT_EQ(ReasonOf(document.status()), Reason::kCheckpointCorrupt);
  EXPECT_EQ(WhereOf(document.status()).file, "a.yaml");
  EXPECT_TRUE(WhereOf(document.status()).offset.has_value());
  EXPECT_EQ(Refusal("? [a]\n: 1\n"), Reason::kCheckpointCorrupt);
}

TEST(Yaml, TextThatIsNotUtf8BecomesText) { EXPECT_EQ(Parsed("a: 'x\xff'"), json({{"a", "x?"}})); }

}  // namespace
}  // namespace slipway::engine
