#include "worker/engine/plan/calibrated_format.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

namespace slipway::engine {
namespace {

constexpr QuantizerSettings kE4M3 = {.exponent_bits = 4, .mantissa_bits = 3};
constexpr QuantizerSettings kDisabled = {.enabled = false, .integer_bits = 8};

QuantizerSettings Blocks(QuantizerSettings settings, std::int64_t columns, std::int64_t rows = 0) {
  settings.block_columns = columns;
  settings.block_rows = rows;
  return settings;
}

QuantizerSettings Scales(QuantizerSettings settings, std::int64_t exponent, std::int64_t mantissa) {
  settings.scale_exponent = exponent;
  settings.scale_mantissa = mantissa;
  return settings;
}

// ModelOpt's presets, as their quantizers are set (mtq.config.choices).
TEST(CalibratedFormat, ThePresetsOfModelOptAreFormats) {
  struct Case {
    std::string preset;
    QuantizerSettings weight;
    bool scaled;
    std::string format;
    std::optional<std::int32_t> group;
  };
  const QuantizerSettings e2m1 = {.exponent_bits = 2, .mantissa_bits = 1};
  const QuantizerSettings int4 = {.integer_bits = 4, .by_row = true};
  const std::vector<Case> cases = {
      {"FP8_DEFAULT_CFG", kE4M3, false, "fp8", {}},
      {"FP8_PER_CHANNEL_PER_TOKEN_CFG",
       {.exponent_bits = 4, .mantissa_bits = 3, .by_row = true},
       false,
       "fp8-per-channel",
       {}},
      {"FP8_2D_BLOCKWISE_WEIGHT_ONLY_CFG", Blocks(kE4M3, 128, 128), false, "fp8-block", 128},
      {"INT8_DEFAULT_CFG", {.integer_bits = 8, .by_row = true}, false, "int8", {}},
      {"INT8_SMOOTHQUANT_CFG", {.integer_bits = 8, .by_row = true}, true, "int8-smoothquant", {}},
      {"INT4_AWQ_CFG", Blocks(int4, 128), true, "int4-awq", 128},
      {"INT4_BLOCKWISE_WEIGHT_ONLY_CFG", Blocks(int4, 64), false, "int4", 64},
      {"NVFP4_DEFAULT_CFG", Scales(Blocks(e2m1, 16), 4, 3), false, "nvfp4", {}},
      {"NVFP4_AWQ_LITE_CFG", Scales(Blocks(e2m1, 16), 4, 3), true, "nvfp4-awq", {}},
      {"MXFP4_DEFAULT_CFG", Scales(Blocks(e2m1, 32), 8, 0), false, "mxfp4", {}},
      {"MXFP8_DEFAULT_CFG", Scales(Blocks(kE4M3, 32), 8, 0), false, "mxfp8", {}},
  };
  for (const Case& c : cases) {
    const CalibratedFormat format = FormatOf({{"weight_quantizer", c.weight}}, c.scaled);
    EXPECT_EQ(format.name, c.format) << c.preset;
    EXPECT_EQ(format.group, c.group) << c.preset;
    EXPECT_EQ(format.stated, DescribeSettings(c.weight)) << c.preset;
  }
  const CalibratedFormat sequence =
      FormatOf({{"weight_quantizer.0", Blocks(int4, 128)}, {"weight_quantizer.1", kE4M3}, {"input_quantizer", kE4M3}},
               /*scaled=*/true);
  EXPECT_EQ(sequence.name, "w4a8-awq");
  EXPECT_EQ(sequence.group, 128);
  EXPECT_EQ(sequence.input, CalibratedInput::kStatic);
}

TEST(CalibratedFormat, WhatIsNoFormatIsNotTakenForOne) {
  const std::vector<QuantizerSettings> others = {
      {.integer_bits = 8},                                                  // INT8 of the whole weight
      {.integer_bits = 2, .by_row = true},                                  // INT2
      {.exponent_bits = 5, .mantissa_bits = 2},                             // E5M2
      Blocks(kE4M3, 128, 64),                                               // not square
      Blocks(kE4M3, 128),                                                   // blocks of a row without a scale's format
      Scales(Blocks({.exponent_bits = 2, .mantissa_bits = 1}, 32), 4, 3),   // NVFP4 in blocks of 32
      Scales(Blocks({.exponent_bits = 3, .mantissa_bits = 2}, 32), 8, 0)};  // MXFP6
  for (const QuantizerSettings& settings : others) {
    const CalibratedFormat format = FormatOf({{"weight_quantizer", settings}}, false);
    EXPECT_EQ(format.name, "") << DescribeSettings(settings);
    EXPECT_EQ(format.stated, DescribeSettings(settings));
  }
  EXPECT_EQ(FormatOf({{"weight_quantizer", kE4M3}}, /*scaled=*/true).name, "");
  EXPECT_EQ(FormatOf({}, false).name, "");
}

TEST(CalibratedFormat, WhatIsDisabledStaysAsItIs) {
  const CalibratedFormat format = FormatOf({{"weight_quantizer", kDisabled}, {"input_quantizer", kE4M3}}, false);
  EXPECT_EQ(format.name, "none");
}

TEST(CalibratedFormat, InputsAreLeftOrQuantizedByStoredRangesOrTheirOwn) {
  const auto input = [](const QuantizerSettings& settings) {
    return FormatOf({{"weight_quantizer", kE4M3}, {"input_quantizer", settings}}, false).input;
  };
  EXPECT_EQ(input(kDisabled), CalibratedInput::kNone);
  EXPECT_EQ(input(kE4M3), CalibratedInput::kStatic);
  EXPECT_EQ(input({.dynamic = true, .exponent_bits = 4, .mantissa_bits = 3}), CalibratedInput::kDynamic);
  // NVFP4's blocks are dynamic under a stored range.
  EXPECT_EQ(input(Scales(Blocks({.dynamic = true, .exponent_bits = 2, .mantissa_bits = 1}, 16), 4, 3)),
            CalibratedInput::kStatic);
  EXPECT_EQ(FormatOf({{"weight_quantizer", kE4M3}}, false).input, CalibratedInput::kNotSaid);
}

TEST(CalibratedFormat, KeysAndValuesAreInOneFormatOrInNone) {
  const QuantizerSettings nvfp4 = Scales(Blocks({.exponent_bits = 2, .mantissa_bits = 1}, 16), 4, 3);
  const auto cache = [](const QuantizerSettings& key, const QuantizerSettings& value) {
    return CacheFormatOf({{"k_bmm_quantizer", key}, {"v_bmm_quantizer", value}});
  };
  EXPECT_EQ(cache(kE4M3, kE4M3), "fp8");
  EXPECT_EQ(cache(nvfp4, nvfp4), "nvfp4");
  EXPECT_EQ(cache(kDisabled, kDisabled), "none");
  EXPECT_EQ(cache(kE4M3, kDisabled), "none");
  EXPECT_EQ(cache(kE4M3, nvfp4), "");
  EXPECT_EQ(CacheFormatOf({}), "");
}

}  // namespace
}  // namespace slipway::engine
