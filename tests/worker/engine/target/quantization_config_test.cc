#include "worker/engine/target/quantization_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/worker/engine/quantize/golden.h"
#include "worker/engine/target/exclude_list.h"

namespace slipway::engine {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

QuantizedModule Module(std::string name, std::string_view format = "", const LayoutWish& wish = {}) {
  const Format* found = FindFormat(format);
  return {.name = std::move(name),
          .format = found,
          .layout = found == nullptr ? nullptr : ChooseLayout(*found, wish),
          .group = 0};
}

std::vector<QuantizedModule> ModulesOf(const test::Golden& golden) {
  std::vector<QuantizedModule> modules;
  const Recipe recipe = test::RecipeFor(golden);
  for (const Json& source : test::ReadSource(golden.source)) {
    const std::string name = test::ModuleOfMatrix(source);
    if (name.empty()) {
      continue;
    }
    modules.push_back({.name = name});
    if (test::IsQuantized(recipe, name)) {
      modules.back().format = FindFormat(golden.format);
      modules.back().layout = test::LayoutOf(golden);
      modules.back().group = golden.group;
    }
  }
  return modules;
}

// Who wrote it differs.
void ForgetProducer(Json& config) {
  if (config.contains("producer")) {
    EXPECT_EQ(config["producer"].size(), 2U);
    config["producer"] = {{"name", ""}, {"version", ""}};
  }
}

class ConfigGoldens : public ::testing::TestWithParam<test::Golden> {};

TEST_P(ConfigGoldens, IsByteForByteWhatTheToolThatMadeTheFormatWrites) {
  const Json golden = test::ReadGolden(GetParam());
  QuantizationFiles files = MakeQuantizationConfig(GetParam().form, ModulesOf(GetParam()), GetParam().kv_cache);
  Json expected = golden["config"];
  ForgetProducer(expected);
  ForgetProducer(files.config);
  EXPECT_EQ(files.config.dump(1), expected.dump(1));
  ASSERT_EQ(files.sidecar.has_value(), golden.contains("sidecar"));
  if (files.sidecar) {
    EXPECT_EQ(files.sidecar->dump(1), golden["sidecar"].dump(1));
  }
}

INSTANTIATE_TEST_SUITE_P(All, ConfigGoldens, ::testing::ValuesIn(test::Goldens()),
                         [](const auto& golden) { return golden.param.source + "_" + golden.param.name; });

// transformers 5 renames modules of these families when it loads them, and looks for its own names.
TEST(QuantizationConfig, NamesThatTransformersChangesAreThereTwice) {
  const LayoutWish wish{.form = ConfigForm::kCompressedTensors};
  const auto ignored = [&wish](const std::vector<std::string>& kept) {
    std::vector<QuantizedModule> modules{Module("model.layers.1.mlp.up_proj", "int8", wish)};
    for (const std::string& name : kept) {
      modules.push_back(Module(name));
    }
    return MakeQuantizationConfig(ConfigForm::kCompressedTensors, modules, KvCache::kNone).config["ignore"];
  };
  EXPECT_EQ(ignored({"embed_out"}), Json({"embed_out", "lm_head"}));
  EXPECT_EQ(ignored({"backbone.layers.0.mixer.in_proj"}),
            Json({"backbone.layers.0.mixer.in_proj", "model.layers.0.mixer.in_proj"}));
  EXPECT_EQ(ignored({"model.layers.0.mlp.up_proj", "visual.merger.mlp.0"}),
            Json({"model.layers.0.mlp.up_proj", "visual.merger.mlp.0", "model.language_model.layers.0.mlp.up_proj",
                  "model.visual.merger.mlp.0"}));
  EXPECT_EQ(ignored({"model.layers.0.mlp.up_proj"}), Json::array({"model.layers.0.mlp.up_proj"}));
}

TEST(QuantizationConfig, AQuantizedOutputLayerIsSaidToEngines) {
  const auto config = [](std::string_view format, ConfigForm form, bool output) {
    const LayoutWish wish{.form = form};
    return MakeQuantizationConfig(
               form,
               {Module("model.layers.0.mlp.up_proj", format, wish), Module("lm_head", output ? format : "", wish)},
               KvCache::kNone)
        .config;
  };
  EXPECT_EQ(config("int8", ConfigForm::kCompressedTensors, false)["config_groups"]["group_0"]["targets"],
            Json::array({"Linear"}));
  EXPECT_EQ(config("int8", ConfigForm::kCompressedTensors, true)["config_groups"]["group_0"]["targets"],
            Json({"Linear", "re:.*(lm_head|embed_out)$"}));
  EXPECT_FALSE(config("int4", ConfigForm::kNative, false).contains("lm_head"));
  EXPECT_EQ(config("int4", ConfigForm::kNative, true)["lm_head"], true);
}

TEST(ConfigGoldens, AMixtureIsDescribedLayerByLayer) {
  const Json golden = test::ReadJson("llama_mixed_auto");
  const LayoutWish wish{.form = ConfigForm::kModelOpt, .has_ranges = true};
  std::vector<QuantizedModule> modules;
  for (const Json& source : test::ReadSource("llama")) {
    if (const std::string name = test::ModuleOfMatrix(source); !name.empty()) {
      const Json layer = golden["config"]["quantized_layers"].value(name, Json());
      const std::string_view format = layer.is_null() ? "" : layer["quant_algo"] == "FP8" ? "fp8" : "nvfp4";
      modules.push_back(Module(name, format, wish));
    }
  }
  QuantizationFiles files = MakeQuantizationConfig(ConfigForm::kModelOpt, modules, KvCache::kNone);
  Json expected = golden["config"];
  ForgetProducer(expected);
  ForgetProducer(files.config);
  EXPECT_EQ(files.config.dump(1), expected.dump(1));
  EXPECT_EQ(files.sidecar->dump(1), golden["sidecar"].dump(1));
}

TEST(QuantizationConfig, TheProducerIsNamedWhereConsumersDoNotAskForAnother) {
  const auto files = MakeQuantizationConfig(ConfigForm::kModelOpt,
                                            {Module("a.b", "fp8", {.form = ConfigForm::kModelOpt, .has_ranges = true})},
                                            KvCache::kNone);
  EXPECT_EQ(files.config["producer"]["name"], "slipway");
  EXPECT_EQ((*files.sidecar)["producer"]["name"], "modelopt");
}

TEST(QuantizationConfig, GroupsOfCompressedTensorsNameTheirModules) {
  const LayoutWish wish{.form = ConfigForm::kCompressedTensors};
  const Json config = MakeQuantizationConfig(
                          ConfigForm::kCompressedTensors,
                          {Module("m.embed_tokens"), Module("m.0.q", "fp8-per-channel", wish), Module("m.0.gate"),
                           Module("m.0.up", "int4", wish), Module("m.1.q", "fp8-per-channel", wish), Module("lm_head")},
                          KvCache::kFp8)
                          .config;
  EXPECT_EQ(config["format"], "mixed-precision");
  EXPECT_EQ(config["config_groups"]["group_0"]["targets"], Json({"m.0.q", "m.1.q"}));
  EXPECT_EQ(config["config_groups"]["group_0"]["format"], "float-quantized");
  EXPECT_EQ(config["config_groups"]["group_1"]["targets"], Json({"m.0.up"}));
  EXPECT_EQ(config["config_groups"]["group_1"]["format"], "pack-quantized");
  EXPECT_EQ(config["config_groups"]["group_1"]["weights"]["group_size"], 128);
  EXPECT_EQ(config["ignore"], Json({"m.0.gate", "lm_head"}));
  EXPECT_EQ(config["kv_cache_scheme"]["num_bits"], 8);
  EXPECT_EQ(config["kv_cache_scheme"]["dynamic"], false);
  EXPECT_EQ(config["kv_cache_scheme"]["strategy"], "tensor");
}

TEST(QuantizationConfig, GroupsOfAnotherSizeAreAnotherGroup) {
  QuantizedModule small = Module("m.1", "int4");
  small.group = 32;
  const Json config =
      MakeQuantizationConfig(ConfigForm::kCompressedTensors, {Module("m.0", "int4"), small}, KvCache::kNone).config;
  EXPECT_EQ(config["format"], "pack-quantized");
  EXPECT_EQ(config["config_groups"]["group_1"]["weights"]["group_size"], 32);
  EXPECT_EQ(config["config_groups"]["group_1"]["targets"], Json({"m.1"}));
}

TEST(QuantizationConfig, WeightsAloneHaveNoInputActivations) {
  const LayoutWish wish{.form = ConfigForm::kCompressedTensors, .activations = Activations::kNone};
  for (const std::string_view format : {"nvfp4", "mxfp4", "int8"}) {
    const Json config =
        MakeQuantizationConfig(ConfigForm::kCompressedTensors, {Module("m.0", format, wish)}, KvCache::kNone).config;
    EXPECT_TRUE(config["config_groups"]["group_0"]["input_activations"].is_null()) << format;
  }
}

// DeepSeek-V3's published quantization_config, with what it keeps.
TEST(QuantizationConfig, BlocksAreDescribedAsDeepSeekDoes) {
  const Json config = MakeQuantizationConfig(ConfigForm::kNative,
                                             {Module("model.embed_tokens"), Module("model.layers.3.mlp.gate"),
                                              Module("m.q", "fp8-block"), Module("lm_head")},
                                             KvCache::kNone)
                          .config;
  EXPECT_EQ(config, Json::parse(R"({"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
      "weight_block_size": [128, 128], "modules_to_not_convert": ["model.layers.3.mlp.gate", "lm_head"]})"));
}

TEST(QuantizationConfig, TheSchemeOfActivationsOfFp8IsSaid) {
  const LayoutWish ranges{.form = ConfigForm::kNative, .has_ranges = true};
  const LayoutWish none{.form = ConfigForm::kNative};
  for (const auto& [wish, scheme] : {std::pair(ranges, "static"), std::pair(none, "dynamic")}) {
    const Json config =
        MakeQuantizationConfig(ConfigForm::kNative, {Module("m.q", "fp8", wish)}, KvCache::kNone).config;
    EXPECT_EQ(config["activation_scheme"], scheme);
    EXPECT_FALSE(config.contains("weight_block_size"));
  }
}

TEST(QuantizationConfig, NativeMxFormatsSayTheirBlocks) {
  const LayoutWish native{.form = ConfigForm::kNative};
  const Json mxfp8 =
      MakeQuantizationConfig(ConfigForm::kNative, {Module("m.q", "mxfp8", native), Module("lm_head")}, KvCache::kNone)
          .config;
  EXPECT_EQ(mxfp8["weight_block_size"], Json({1, 32}));
  EXPECT_EQ(mxfp8["scale_fmt"], "ue8m0");
  EXPECT_EQ(mxfp8["ignored_layers"], Json({"lm_head"}));
  const Json mxfp4 = MakeQuantizationConfig(ConfigForm::kNative,
                                            {Module("model.embed_tokens"),
                                             Module("m.experts.gate_up_proj", "mxfp4", native), Module("lm_head")},
                                            KvCache::kNone)
                         .config;
  EXPECT_EQ(mxfp4, Json::parse(R"({"quant_method": "mxfp4",
                                   "modules_to_not_convert": ["model.embed_tokens", "lm_head"]})"));
}

TEST(QuantizationConfig, GptqIsToldWhatElseIsNotConverted) {
  const LayoutWish native{.form = ConfigForm::kNative};
  const Json config = MakeQuantizationConfig(ConfigForm::kNative,
                                             {Module("m.embed_tokens"), Module("m.0.gate"),
                                              Module("m.0.up", "int4-gptq", native), Module("lm_head")},
                                             KvCache::kNone)
                          .config;
  EXPECT_EQ(config["dynamic"], Json::parse(R"({"-:m\\.0\\.gate$": {}})"));
}

TEST(QuantizationConfig, AKvCacheThatAFormCannotSayIsRefusedWithAdvice) {
  EXPECT_EQ(WhyNotKvCache(ConfigForm::kNative, KvCache::kNone), std::nullopt);
  EXPECT_EQ(WhyNotKvCache(ConfigForm::kModelOpt, KvCache::kNvfp4), std::nullopt);
  EXPECT_EQ(WhyNotKvCache(ConfigForm::kCompressedTensors, KvCache::kFp8), std::nullopt);
  EXPECT_NE(WhyNotKvCache(ConfigForm::kCompressedTensors, KvCache::kNvfp4), std::nullopt);
  EXPECT_NE(WhyNotKvCache(ConfigForm::kNative, KvCache::kFp8), std::nullopt);
}

TEST(ExcludeList, WhatHasNothingQuantizedBelowItIsOneEntry) {
  EXPECT_THAT(ExcludeList({"a.0.attn.q", "a.0.attn.k", "a.1.attn.q", "head"}, {"a.0.mlp.up", "a.1.mlp.up"}),
              ElementsAre("a.0.attn*", "a.1.attn*", "head"));
}

TEST(ExcludeList, ALayerIsNotTakenForTheTenthOfIt) {
  EXPECT_THAT(ExcludeList({"m.layers.1.mlp.up"}, {"m.layers.0.mlp.up", "m.layers.10.mlp.up"}),
              ElementsAre("m.layers.1.*"));
  EXPECT_THAT(ExcludeList({"m.layers.1.mlp.up"}, {"m.layers.0.mlp.up", "m.layers.2.mlp.up"}),
              ElementsAre("m.layers.1*"));
}

TEST(ExcludeList, ANameThatIsPartOfAQuantizedOneIsWrittenSoThatItIsNot) {
  EXPECT_THAT(ExcludeList({"m.0.mlp.gate"}, {"m.0.mlp.gate_proj"}), ElementsAre("m.0.mlp.gat[e]"));
  EXPECT_THAT(ExcludeList({"head"}, {"m.0.head", "m.0.q"}), ElementsAre("hea[d]"));
  EXPECT_THAT(ExcludeList({"visual.q"}, {"model.visual_proj"}), ElementsAre("visual.*"));
  EXPECT_THAT(ExcludeList({}, {"a"}), IsEmpty());
}

// fnmatch's and re's rules for what entries have: text, "*", one bracket.
bool Globs(std::string_view pattern, std::string_view name) {
  if (pattern.empty() || name.empty()) {
    return pattern.find_first_not_of('*') == std::string_view::npos && name.empty();
  }
  if (pattern[0] == '*') {
    return Globs(pattern.substr(1), name) || Globs(pattern, name.substr(1));
  }
  if (pattern[0] == '[') {
    return pattern[1] == name[0] && Globs(pattern.substr(3), name.substr(1));
  }
  return pattern[0] == name[0] && Globs(pattern.substr(1), name.substr(1));
}

bool VllmExcludes(std::string_view entry, std::string_view name) {
  if (entry.ends_with('*') && !entry.ends_with(".*")) {
    const std::string_view text = entry.substr(0, entry.size() - 1);
    return name.find(text) != std::string_view::npos || Globs(std::string(text) + ".*", name);
  }
  return name.find(entry) != std::string_view::npos || Globs(entry, name);
}

bool SglangExcludes(std::string_view entry, std::string_view name) {
  for (std::string_view rest = name; !rest.empty();) {
    const std::size_t dot = rest.find('.');
    if (Globs(entry, rest.substr(0, dot))) {
      return true;
    }
    rest = dot == std::string_view::npos ? "" : rest.substr(dot + 1);
  }
  return Globs(entry, name);
}

// No entry for SGLang tells such a name from the part.
bool IsPartOfAny(std::string_view name, const std::vector<std::string_view>& others) {
  return std::ranges::any_of(others, [&](std::string_view other) {
    return ("." + std::string(other) + ".").find("." + std::string(name) + ".") != std::string::npos &&
           name.find('.') == std::string_view::npos;
  });
}

// Small names of few letters, so that they are parts of one another; the same each time.
TEST(ExcludeList, EveryConsumerExcludesWhatIsKeptAndNothingElse) {
  std::uint32_t state = 12345;
  const auto random = [&state](std::uint32_t below) {
    state = state * 1664525 + 1013904223;
    return (state >> 16) % below;
  };
  for (int round = 0; round < 300; ++round) {
    std::vector<std::string> names;
    for (int i = 0; i < 12; ++i) {
      std::string name;
      for (std::uint32_t parts = 1 + random(3); parts > 0; --parts) {
        name += name.empty() ? "" : ".";
        for (std::uint32_t letters = 1 + random(2); letters > 0; --letters) {
          name += "ab1"[random(3)];
        }
      }
      if (std::ranges::find(names, name) == names.end()) {
        names.push_back(name);
      }
    }
    // A module with a matrix has no modules below it.
    std::erase_if(names, [all = names](const std::string& name) {
      return std::ranges::any_of(all, [&](const std::string& other) { return other.starts_with(name + "."); });
    });
    std::vector<std::string_view> kept(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(names.size() / 2));
    std::vector<std::string_view> quantized(names.begin() + static_cast<std::ptrdiff_t>(names.size() / 2), names.end());
    std::erase_if(kept, [&](std::string_view name) { return IsPartOfAny(name, quantized); });
    const std::vector<std::string> entries = ExcludeList(kept, quantized);
    for (const std::string_view name : kept) {
      EXPECT_TRUE(std::ranges::any_of(entries, [&](const auto& entry) { return VllmExcludes(entry, name); })) << name;
      EXPECT_TRUE(std::ranges::any_of(entries, [&](const auto& entry) { return Globs(entry, name); })) << name;
    }
    for (const std::string_view name : quantized) {
      for (const std::string& entry : entries) {
        EXPECT_FALSE(VllmExcludes(entry, name)) << entry << " " << name;
        EXPECT_FALSE(SglangExcludes(entry, name)) << entry << " " << name;
        EXPECT_FALSE(Globs(entry, name)) << entry << " " << name;
      }
    }
  }
}

}  // namespace
}  // namespace slipway::engine
