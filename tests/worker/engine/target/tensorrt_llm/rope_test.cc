// Rotary positions in the spellings of config.json: what engines are told, and what is refused.
#include "worker/engine/target/tensorrt_llm/rope.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "common/error.h"

namespace slipway::engine::tensorrt_llm {
namespace {

using nlohmann::json;
using testing::HasSubstr;

Rope Read(const std::string& config) {
  const auto rope = ReadRope(json::parse(config));
  EXPECT_TRUE(rope.ok()) << config << ": " << Describe(rope.status());
  return rope.value_or(Rope{});
}

void ExpectRefused(const std::string& config, Reason reason, const std::string& said) {
  const absl::Status status = ReadRope(json::parse(config)).status();
  EXPECT_EQ(ReasonOf(status), reason) << config << ": " << Describe(status);
  EXPECT_THAT(Describe(status), HasSubstr(said)) << config;
}

TEST(Rope, BothSpellingsOfTheSameModelSayTheSame) {
  for (const char* config : {R"({"rope_theta": 5e5, "partial_rotary_factor": 0.5})",
                             R"({"rope_parameters": {"rope_theta": 5e5, "partial_rotary_factor": 0.5}})",
                             R"({"rotary_emb_base": 5e5, "rotary_pct": 0.5})"}) {
    const Rope rope = Read(config);
    EXPECT_EQ(rope.base, 5e5) << config;
    EXPECT_EQ(rope.fraction, 0.5) << config;
    EXPECT_TRUE(rope.scaling.is_null()) << config;
  }
}

TEST(Rope, LayersWithAWindowHaveABaseOfTheirOwn) {
  EXPECT_EQ(Read(R"({"rope_theta": 1e6, "rope_local_base_freq": 2e4})").local_base, 2e4);
  const Rope rope = Read(R"({"rope_parameters": {"full_attention": {"rope_theta": 1e6},
                                                 "sliding_attention": {"rope_theta": 3e4}}})");
  EXPECT_EQ(rope.base, 1e6);
  EXPECT_EQ(rope.local_base, 3e4);
}

TEST(Rope, ScalingKeepsItsFieldsUnderBothNamesOfItsType) {
  const Rope rope = Read(R"({"rope_scaling": {"type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                             "high_freq_factor": 4.0, "original_max_position_embeddings": 8192, "unknown": 1}})");
  EXPECT_EQ(json(rope.scaling),
            json::parse(R"({"type": "llama3", "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192})"));
  EXPECT_EQ(Read(R"({"rope_scaling": {"rope_type": "linear", "factor": 2}})").scaling.at("factor"), 2);
  EXPECT_TRUE(Read(R"({"rope_scaling": {"rope_type": "default"}})").scaling.is_null());
}

TEST(Rope, ScalingThatIsNotWholeIsInvalid) {
  const std::string whole = R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                "original_max_position_embeddings": 8192})";
  for (const char* name : {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
    json lacking = json::parse(whole);
    lacking.erase(name);
    ExpectRefused(json{{"rope_scaling", lacking}}.dump(), Reason::kConfigurationInvalid, name);
    lacking[name] = "8";
    ExpectRefused(json{{"rope_scaling", lacking}}.dump(), Reason::kConfigurationInvalid, name);
  }
  ExpectRefused(R"({"rope_scaling": {"type": "linear"}})", Reason::kConfigurationInvalid, "factor");
  ExpectRefused(R"({"rope_scaling": {"type": "longrope", "short_factor": [1], "long_factor": "x"}})",
                Reason::kConfigurationInvalid, "long_factor");
}

TEST(Rope, WhatEnginesWouldRotateOtherwiseIsRefused) {
  ExpectRefused(R"({"rope_scaling": {"type": "yarn", "factor": 4}})", Reason::kOptionUnsupported, "yarn");
  ExpectRefused(R"({"rope_scaling": [1]})", Reason::kConfigurationInvalid, "rope_scaling");
  ExpectRefused(R"({"rope_parameters": "x"})", Reason::kConfigurationInvalid, "rope_parameters");
  ExpectRefused(R"({"rope_theta": -1})", Reason::kConfigurationInvalid, "base -1");
  ExpectRefused(R"({"partial_rotary_factor": 1.5})", Reason::kConfigurationInvalid, "1.5");
}

}  // namespace
}  // namespace slipway::engine::tensorrt_llm
