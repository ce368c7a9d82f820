#include "worker/engine/plan/input_ranges.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/error.h"

namespace slipway::engine {
namespace {

class InputRangesTest : public testing::Test {
 protected:
  void Add(const std::string& module, std::string_view format = "nvfp4", std::int64_t columns = 4) {
    QuantizedWeight& weight = plan_.quantized.emplace_back();
    weight.module = module;
    weight.columns = columns;
    weight.format = FindFormat(format);
    weight.layout = ChooseLayout(*weight.format, {.activations = Activations::kStatic, .has_ranges = true});
  }

  absl::Status Run() { return InputRanges(recipe_, &ranges_, plan_); }

  float RangeOf(const std::string& module) {
    const auto found = std::ranges::find(plan_.quantized, module, &QuantizedWeight::module);
    return found->input_amax.value_or(-1);
  }

  Recipe recipe_;
  Ranges ranges_{.origin = "--ranges r", .modules = {}, .attention = {}};
  ExportPlan plan_;
};

TEST_F(InputRangesTest, TheLargestOfTheChannelsIsTaken) {
  Add("l.o_proj");
  ranges_.modules["l.o_proj"].input_amax = {1, 5, 3, 2};
  ASSERT_TRUE(Run().ok());
  EXPECT_EQ(RangeOf("l.o_proj"), 5);
}

TEST_F(InputRangesTest, ChannelsAreSmoothedBeforeTheyAreCompared) {
  Add("l.o_proj");
  ranges_.modules["l.o_proj"].input_amax = {1, 5, 3, 2};
  plan_.quantized[0].pre_quant_scale = std::make_shared<std::vector<float>>(std::vector<float>{8, 1, 0.5F, 0.5F});
  ASSERT_TRUE(Run().ok());
  EXPECT_EQ(RangeOf("l.o_proj"), 8);
}

TEST_F(InputRangesTest, AnExpertsGateAndUpHaveOneRangeInEveryFormat) {
  for (const char* name : {"l.mlp.experts.0.gate_proj", "l.mlp.experts.0.up_proj", "l.mlp.experts.1.gate_proj",
                           "l.mlp.experts.1.up_proj"}) {
    Add(name, "fp8");
  }
  ranges_.modules["l.mlp.experts.0.gate_proj"].input_amax = {2};
  ranges_.modules["l.mlp.experts.0.up_proj"].input_amax = {3};
  ranges_.modules["l.mlp.experts.1.gate_proj"].input_amax = {5};
  ranges_.modules["l.mlp.experts.1.up_proj"].input_amax = {4};
  ASSERT_TRUE(Run().ok());
  EXPECT_EQ(RangeOf("l.mlp.experts.0.gate_proj"), 3);
  EXPECT_EQ(RangeOf("l.mlp.experts.0.up_proj"), 3);
  EXPECT_EQ(RangeOf("l.mlp.experts.1.gate_proj"), 5);
  EXPECT_EQ(RangeOf("l.mlp.experts.1.up_proj"), 5);
}

TEST_F(InputRangesTest, FusedSiblingsHaveOneRangeWhereTheFormatSharesScales) {
  for (const char* format : {"nvfp4", "fp8"}) {
    plan_.quantized.clear();
    for (const char* name : {"l.self_attn.q_proj", "l.self_attn.k_proj", "l.self_attn.v_proj", "l.self_attn.o_proj"}) {
      Add(name, format);
    }
    ranges_.modules["l.self_attn.q_proj"].input_amax = {2};
    ranges_.modules["l.self_attn.v_proj"].input_amax = {3};  // k_proj has none of its own: its input is theirs
    ranges_.modules["l.self_attn.o_proj"].input_amax = {1};
    ASSERT_TRUE(Run().ok()) << format;
    EXPECT_EQ(RangeOf("l.self_attn.q_proj"), std::string_view(format) == "nvfp4" ? 3 : 2) << format;
    EXPECT_EQ(RangeOf("l.self_attn.k_proj"), 3) << format;
    EXPECT_EQ(RangeOf("l.self_attn.v_proj"), 3) << format;
    EXPECT_EQ(RangeOf("l.self_attn.o_proj"), 1) << format;
  }
  EXPECT_THAT(plan_.warnings, testing::IsEmpty());
}

TEST_F(InputRangesTest, AnExpertThatNothingReachedGetsTheLargestOfItsLayersAndIsCounted) {
  for (const char* name : {"l.0.mlp.experts.0.down_proj", "l.0.mlp.experts.1.down_proj", "l.0.mlp.experts.2.down_proj",
                           "l.1.mlp.experts.0.down_proj"}) {
    Add(name);
  }
  ranges_.modules["l.0.mlp.experts.0.down_proj"].input_amax = {2};
  ranges_.modules["l.0.mlp.experts.2.down_proj"].input_amax = {4};
  ranges_.modules["l.1.mlp.experts.0.down_proj"].input_amax = {9};
  ASSERT_TRUE(Run().ok());
  EXPECT_EQ(RangeOf("l.0.mlp.experts.0.down_proj"), 2);
  EXPECT_EQ(RangeOf("l.0.mlp.experts.1.down_proj"), 4);
  EXPECT_THAT(plan_.warnings, testing::ElementsAre(testing::AllOf(testing::HasSubstr("1 weight of experts"),
                                                                  testing::HasSubstr("experts.1.down_proj"))));
}

TEST_F(InputRangesTest, WhatHasNoRangeGetsTheRecipesDefaultAndIsCountedOrIsRefusedByName) {
  Add("l.o_proj");
  const absl::Status refused = Run();
  EXPECT_EQ(ReasonOf(refused), Reason::kOptionUnsupported);
  EXPECT_EQ(WhereOf(refused).tensor, "l.o_proj");
  recipe_.default_input_amax = 2688;
  ASSERT_TRUE(Run().ok());
  EXPECT_EQ(RangeOf("l.o_proj"), 2688);
  EXPECT_THAT(plan_.warnings, testing::ElementsAre(testing::HasSubstr("default_input_amax")));
}

TEST_F(InputRangesTest, RangesOfAnotherNumberOfChannelsAreRefusedByName) {
  Add("l.o_proj");
  ranges_.modules["l.o_proj"].input_amax = {1, 2, 3};
  const absl::Status refused = Run();
  EXPECT_EQ(ReasonOf(refused), Reason::kTensorShapeMismatch);
  EXPECT_EQ(WhereOf(refused).tensor, "l.o_proj");
}

}  // namespace
}  // namespace slipway::engine
