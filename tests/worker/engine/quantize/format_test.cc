#include "worker/engine/quantize/format.h"

#include <functional>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/vocabulary.h"
#include "worker/engine/quantize/quantizer.h"

namespace slipway::engine {
namespace {

using ::testing::HasSubstr;

const Layout& Chosen(std::string_view format, const LayoutWish& wish) {
  const Layout* layout = ChooseLayout(*FindFormat(format), wish);
  EXPECT_NE(layout, nullptr) << format << ": " << WhyNoLayout(*FindFormat(format), wish);
  static const Layout kNone;
  return layout == nullptr ? kNone : *layout;
}

std::string Refusal(std::string_view format, const LayoutWish& wish, std::int64_t rows, std::int64_t columns,
                    std::int32_t group = 0) {
  return WhyNot(*FindFormat(format), Chosen(format, wish), rows, columns, group).value_or("");
}

TEST(Formats, TheCommandLineOffersThemAllAndNoOthers) {
  std::set<std::string_view> offered;
  for (const Word& word : QuantizationFormats()) {
    offered.insert(word.name);
  }
  std::set<std::string_view> known = {"none", "checkpoint"};
  for (const Format* format : Formats()) {
    known.insert(format->name);
  }
  EXPECT_EQ(offered, known);
}

TEST(Formats, TheCommandLineDescribesThemInTheTablesWords) {
  for (const Word& word : QuantizationFormats()) {
    if (const Format* format = FindFormat(word.name)) {
      EXPECT_EQ(word.summary, format->summary) << word.name;
    }
  }
}

std::set<std::string_view> LoadersOf(const Format& format) {
  std::set<std::string_view> names;
  for (const Layout& layout : format.layouts) {
    const unsigned loaders = layout.loaders | layout.expert_loaders;
    for (const auto& [bit, name] :
         {std::pair(kLoadsVllm, "vLLM"), std::pair(kLoadsSglang, "SGLang"),
          std::pair(kLoadsTensorRtLlm, "TensorRT-LLM"), std::pair(kLoadsTransformers, "transformers")}) {
      if ((loaders & bit) != 0) {
        names.insert(name);
      }
    }
  }
  return names;
}

TEST(Formats, TheCommandLineNamesTheConsumersThatLoadThem) {
  for (const Word& word : QuantizationFormats()) {
    if (const Format* format = FindFormat(word.name)) {
      for (const std::string_view consumer : {"vLLM", "SGLang", "TensorRT-LLM", "transformers"}) {
        EXPECT_EQ(word.loaders.find(consumer) != std::string_view::npos, LoadersOf(*format).contains(consumer))
            << word.name << ", " << consumer;
      }
    }
  }
}

TEST(Formats, AllAreOfferedButWhatNoCheckpointIsCalibratedFor) {
  for (const Word& word : QuantizationFormats()) {
    if (const Format* format = FindFormat(word.name)) {
      EXPECT_EQ(word.supported, word.name != "int4-gptq") << word.name;
      EXPECT_EQ(word.needs.find("calibrat") != std::string_view::npos, format->needs_calibration) << word.name;
    }
  }
}

TEST(Formats, EachNamesTensorsOfOneMeaningOnceAndCodesFirst) {
  for (const Format* format : Formats()) {
    for (const Layout& layout : format->layouts) {
      std::set<StoredRole> roles;
      std::set<std::string_view> suffixes;
      for (const LayoutTensor& tensor : layout.tensors) {
        EXPECT_TRUE(roles.insert(tensor.role).second) << format->name;
        EXPECT_TRUE(suffixes.insert(tensor.suffix).second) << format->name << " " << tensor.suffix;
        EXPECT_NE(tensor.shape, nullptr) << format->name << " " << tensor.suffix;
        EXPECT_EQ(tensor.role == StoredRole::kConstantZeroPoints, tensor.word != 0) << format->name;
      }
      EXPECT_EQ(roles.contains(StoredRole::kZeroPoints), HasZeroPoints(layout.coding.rule)) << format->name;
      EXPECT_EQ(layout.tensors.front().role, StoredRole::kCodes) << format->name;
      const bool has_input_scale =
          roles.contains(StoredRole::kInputScale) || roles.contains(StoredRole::kInputScaleReciprocal);
      EXPECT_EQ(has_input_scale, layout.activations == Activations::kStatic) << format->name;
      EXPECT_EQ(layout.input_bound != 0, layout.activations != Activations::kNone) << format->name;
    }
  }
}

TEST(Formats, ScalesThatTheTableStatesHaveTheCodingsType) {
  for (const Format* format : Formats()) {
    for (const Layout& layout : format->layouts) {
      for (const LayoutTensor& tensor : layout.tensors) {
        if (tensor.role == StoredRole::kScales && !tensor.model_dtype) {
          EXPECT_EQ(tensor.dtype, layout.coding.scale_dtype) << format->name << " " << tensor.suffix;
        }
      }
    }
  }
}

// DeepSeek's names, a projection of 7168 to 576 rows, and GPT-OSS's of 32 experts, as published.
TEST(Formats, NativeLayoutsHaveThePublishedShapes) {
  const Layout& blocks = Chosen("fp8-block", {.form = ConfigForm::kNative});
  EXPECT_EQ(blocks.tensors[1].suffix, "weight_scale_inv");
  EXPECT_EQ(blocks.tensors[1].shape(576, 7168, blocks.coding), Shape({5, 56}));
  const Layout& experts = Chosen("mxfp4", {.form = ConfigForm::kNative});
  EXPECT_TRUE(experts.stacked_experts);
  EXPECT_EQ(experts.tensors[0].suffix, "blocks");
  EXPECT_EQ(experts.tensors[0].shape(5760, 2880, experts.coding), Shape({5760, 90, 16}));
  EXPECT_EQ(experts.tensors[1].shape(5760, 2880, experts.coding), Shape({5760, 90}));
  const Layout& mxfp8 = Chosen("mxfp8", {.form = ConfigForm::kNative});
  EXPECT_EQ(mxfp8.tensors[1].suffix, "weight_scale_inv");
  EXPECT_EQ(mxfp8.tensors[1].shape(64, 128, mxfp8.coding), Shape({64, 4}));
  EXPECT_EQ(mxfp8.tensors[1].dtype, DType::kU8);
}

TEST(Formats, WeightsAloneAreCompressedTensorsWithoutInputScales) {
  const Layout& nvfp4 = Chosen("nvfp4", {.form = ConfigForm::kCompressedTensors, .activations = Activations::kNone});
  EXPECT_EQ(nvfp4.tensors.size(), 3U);
  EXPECT_EQ(nvfp4.tensors[2].suffix, "weight_global_scale");
  const Layout& int8 = Chosen("int8", {.form = ConfigForm::kCompressedTensors});
  EXPECT_EQ(int8.tensors[0].suffix, "weight_packed");
  EXPECT_EQ(int8.tensors[0].shape(48, 66, int8.coding), Shape({48, 17}));
  EXPECT_EQ(int8.tensors[1].shape(48, 66, int8.coding), Shape({48, 1}));
}

struct Choice {
  std::string_view format;
  LayoutWish wish;
  ConfigForm form;
  Activations activations;
  std::string_view algorithm;
};

TEST(ChooseLayout, TakesWhatMostConsumersLoad) {
  using enum ConfigForm;
  const std::vector<Choice> choices = {
      {"fp8", {.has_ranges = true}, kModelOpt, Activations::kStatic, "FP8"},
      {"fp8", {}, kCompressedTensors, Activations::kDynamic, "float-quantized"},
      {"fp8", {.has_experts = true}, kNative, Activations::kDynamic, "fp8"},
      {"fp8", {.form = kNative, .has_ranges = true}, kNative, Activations::kStatic, "fp8"},
      {"fp8",
       {.activations = Activations::kDynamic, .has_ranges = true},
       kCompressedTensors,
       Activations::kDynamic,
       "float-quantized"},
      {"fp8-per-channel", {}, kCompressedTensors, Activations::kDynamic, "float-quantized"},
      {"fp8-block", {}, kNative, Activations::kDynamic, "fp8"},
      {"int8", {.has_ranges = true}, kCompressedTensors, Activations::kNone, "pack-quantized"},
      {"int8", {.form = kModelOpt}, kModelOpt, Activations::kNone, "W8A16"},
      {"int4", {}, kCompressedTensors, Activations::kNone, "pack-quantized"},
      {"int4", {.form = kNative}, kNative, Activations::kNone, "awq"},
      {"nvfp4", {.has_ranges = true}, kModelOpt, Activations::kStatic, "NVFP4"},
      {"nvfp4", {}, kModelOpt, Activations::kNone, "W4A16_NVFP4"},
      {"mxfp4", {.has_experts = true}, kCompressedTensors, Activations::kNone, "mxfp4-pack-quantized"},
      {"mxfp8", {}, kModelOpt, Activations::kDynamic, "MXFP8"},
  };
  for (const Choice& choice : choices) {
    const Layout& layout = Chosen(choice.format, choice.wish);
    EXPECT_EQ(layout.form, choice.form) << choice.format;
    EXPECT_EQ(layout.activations, choice.activations) << choice.format;
    EXPECT_EQ(layout.algorithm, choice.algorithm) << choice.format;
  }
}

TEST(ChooseLayout, AScaleOfActivationsIsNotMadeUp) {
  const Format& nvfp4 = *FindFormat("nvfp4");
  const LayoutWish wish{.activations = Activations::kStatic};
  EXPECT_EQ(ChooseLayout(nvfp4, wish), nullptr);
  EXPECT_THAT(WhyNoLayout(nvfp4, wish), HasSubstr("--ranges"));
}

TEST(ChooseLayout, WhatAFormatDoesNotHaveIsSaidWithWhatItHas) {
  const Format& nvfp4 = *FindFormat("nvfp4");
  const LayoutWish native{.form = ConfigForm::kNative, .has_ranges = true};
  EXPECT_EQ(ChooseLayout(nvfp4, native), nullptr);
  EXPECT_EQ(WhyNoLayout(nvfp4, native),
            "nvfp4 has no layout in the form native; there are: modelopt with activations static, compressed-tensors "
            "with activations static, modelopt with activations none, compressed-tensors with activations none.");
}

TEST(ChooseLayout, AFormatAloneHasTheFormOfItsLayout) {
  for (const Format* format : Formats()) {
    for (const bool has_ranges : {false, true}) {
      for (const bool has_experts : {false, true}) {
        const LayoutWish wish{.has_ranges = has_ranges, .has_experts = has_experts};
        const Layout* layout = ChooseLayout(*format, wish);
        const std::vector<FormatChoice> alone = {{format}};
        EXPECT_EQ(ChooseForm(alone, wish), layout == nullptr ? std::nullopt : std::optional(layout->form));
      }
    }
  }
}

TEST(ChooseLayout, AMixtureHasOneFormAndNoNativeOne) {
  const std::vector<FormatChoice> mixture = {{FindFormat("fp8")}, {FindFormat("nvfp4")}};
  EXPECT_EQ(ChooseForm(mixture, {.has_ranges = true}), ConfigForm::kModelOpt);
  EXPECT_EQ(ChooseForm(mixture, {}), ConfigForm::kCompressedTensors);
  const std::vector<FormatChoice> alike = {{FindFormat("fp8-block")}, {FindFormat("fp8-block")}};
  EXPECT_EQ(ChooseForm(alike, {}), ConfigForm::kNative);
  const std::vector<FormatChoice> apart = {{FindFormat("nvfp4-awq")}, {FindFormat("int4-gptq")}};
  EXPECT_EQ(ChooseForm(apart, {.has_ranges = true}), std::nullopt);
  const std::vector<FormatChoice> with_and_without = {{FindFormat("int4"), false}, {FindFormat("int4"), true}};
  EXPECT_EQ(ChooseForm(with_and_without, {}), ConfigForm::kCompressedTensors);
}

// compressed-tensors' own default is symmetric, AutoAWQ's is not.
TEST(ChooseLayout, ZeroPointsAreAsTheFormHasThemOrAsAskedFor) {
  constexpr ConfigForm kCompressed = ConfigForm::kCompressedTensors;
  struct {
    LayoutWish wish;
    ConfigForm form;
    bool zero_points;
  } const cases[] = {
      {{}, kCompressed, false},
      {{.symmetric = true}, kCompressed, false},
      {{.symmetric = false}, kCompressed, true},
      {{.form = ConfigForm::kNative}, ConfigForm::kNative, true},
      {{.form = ConfigForm::kNative, .symmetric = true}, ConfigForm::kNative, false},
      {{.form = ConfigForm::kNative, .symmetric = false}, ConfigForm::kNative, true},
  };
  for (const std::string_view format : {"int4", "int4-awq"}) {
    for (const auto& a_case : cases) {
      const Layout& layout = Chosen(format, a_case.wish);
      EXPECT_EQ(layout.form, a_case.form) << format;
      EXPECT_EQ(HasZeroPoints(layout.coding.rule), a_case.zero_points) << format;
    }
  }
  const Format& int4 = *FindFormat("int4");
  const LayoutWish modelopt{.form = ConfigForm::kModelOpt, .symmetric = false};
  EXPECT_EQ(ChooseLayout(int4, modelopt), nullptr);
  EXPECT_THAT(WhyNoLayout(int4, modelopt),
              HasSubstr("int4 has no layout in the form modelopt with zero points; there"));
}

TEST(WhyNot, SaysWhichExtentDoesNotFit) {
  EXPECT_EQ(Refusal("nvfp4", {}, 7, 40), "its 40 columns are no whole groups of 16");
  EXPECT_EQ(Refusal("nvfp4", {}, 7, 48), "");
  EXPECT_EQ(Refusal("mxfp8", {}, 8, 48), "its 48 columns are no whole groups of 32");
  EXPECT_EQ(Refusal("int4", {}, 8, 192), "its 192 columns are no whole groups of 128");
  EXPECT_EQ(Refusal("int4", {}, 8, 192, 64), "");
  EXPECT_EQ(Refusal("int4", {.form = ConfigForm::kModelOpt}, 7, 128), "its 7 rows are no multiple of 2");
  EXPECT_EQ(Refusal("int4", {.form = ConfigForm::kNative}, 12, 128), "its 12 rows are no multiple of 8");
  EXPECT_EQ(Refusal("int4", {.form = ConfigForm::kCompressedTensors, .symmetric = false}, 12, 128),
            "its 12 rows are no multiple of 8");
  EXPECT_EQ(Refusal("int4", {.form = ConfigForm::kCompressedTensors}, 12, 128), "");
  EXPECT_EQ(Refusal("int4-gptq", {.form = ConfigForm::kNative}, 12, 128), "its 12 rows are no multiple of 8");
  EXPECT_EQ(Refusal("fp8", {}, 0, 32), "it is empty");
}

// The quantizer's own idea of what it can code and how much that is.
TEST(WhyNot, WhatFitsCanBeCodedIntoTensorsOfTheStatedShapes) {
  const auto count = [](const Shape& shape) {
    return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
  };
  int fitting = 0;
  for (const Format* format : Formats()) {
    for (const Layout& layout : format->layouts) {
      for (const std::int64_t rows : {1, 2, 7, 8, 16, 20, 48, 128, 200, 256}) {
        for (const std::int64_t columns : {1, 4, 8, 16, 31, 32, 48, 96, 128, 192, 256, 272}) {
          if (WhyNot(*format, layout, rows, columns)) {
            continue;
          }
          ++fitting;
          ASSERT_TRUE(CanCode(layout.coding, rows, columns)) << format->name << " " << rows << " x " << columns;
          for (const LayoutTensor& tensor : layout.tensors) {
            const std::int64_t elements = count(tensor.shape(rows, columns, layout.coding));
            if (tensor.role == StoredRole::kCodes) {
              EXPECT_EQ(elements * InfoOf(tensor.dtype).bytes, CodeBytes(layout.coding, rows, columns)) << format->name;
            } else if (tensor.role == StoredRole::kScales) {
              EXPECT_EQ(elements, ScaleCount(layout.coding, rows, columns)) << format->name;
            } else if (tensor.role == StoredRole::kZeroPoints) {
              EXPECT_EQ(elements * 8, ScaleCount(layout.coding, rows, columns)) << format->name;
            }
          }
        }
      }
    }
  }
  EXPECT_GT(fitting, 500);
}

TEST(WhyNot, BlocksMayBeCutExceptByModelOptimizer) {
  const LayoutWish modelopt{.form = ConfigForm::kModelOpt};
  EXPECT_EQ(Refusal("fp8-block", {}, 576, 7168), "");
  EXPECT_EQ(Refusal("fp8-block", modelopt, 576, 7168), "its 576 rows are no multiple of 128");
  EXPECT_EQ(Refusal("fp8-block", modelopt, 128, 192), "its 192 columns are no multiple of 128");
  EXPECT_EQ(Refusal("fp8-block", modelopt, 128, 128), "it is a single block");
  EXPECT_EQ(Refusal("fp8-block", modelopt, 128, 256), "");
}

TEST(Names, OfFormsReadBack) {
  for (const ConfigForm form : {ConfigForm::kModelOpt, ConfigForm::kCompressedTensors, ConfigForm::kNative}) {
    EXPECT_EQ(ConfigFormOf(NameOf(form)), form);
  }
  EXPECT_EQ(ConfigFormOf("auto"), std::nullopt);
  EXPECT_EQ(FindFormat("none"), nullptr);
}

}  // namespace
}  // namespace slipway::engine
