// What config.json and quant_cfg.json say of quantized modules, and which versions build an engine of them.
#include "worker/engine/target/tensorrt_llm/quantization.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "common/error.h"
#include "worker/engine/quantize/formats/tables.h"

namespace slipway::engine {
namespace {

using nlohmann::json;
using tensorrt_llm::DescribeQuantization;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kConfig = R"({"dtype": "bfloat16"})";

RankModule ModuleOf(const std::string& name, const Format* format, std::int64_t rows = 256,
                    std::int64_t columns = 256) {
  RankModule module;
  module.name = "transformer.layers.0." + name;
  module.source = "model.layers.0." + name;
  module.rows = rows;
  module.columns = columns;
  if (format != nullptr) {
    module.format = &*std::ranges::find(tensorrt_llm::QuantizedFormats(), format, &RankFormat::format);
    module.group = module.format->layout.coding.group;
  }
  return module;
}

absl::StatusOr<RankQuantizationText> Describe(const std::vector<RankModule>& modules, const std::string& version = "",
                                              std::int64_t tensor = 1) {
  return DescribeQuantization(modules, KvCache::kNone, {.tensor_parallel = tensor, .version = version}, kConfig);
}

json QuantizationOf(const std::vector<RankModule>& modules) {
  const auto text = Describe(modules);
  EXPECT_TRUE(text.ok()) << text.status();
  return json::parse(text->texts.at(0).content)["quantization"];
}

std::string Refusal(const absl::StatusOr<RankQuantizationText>& text) {
  EXPECT_EQ(ReasonOf(text.status()), Reason::kOptionUnsupported);
  return std::string(text.status().message());
}

TEST(TensorRtLlmQuantization, AListOfOnesOwnRepeatsTheDefaultOne) {
  const json quantization = QuantizationOf({ModuleOf("attention.qkv", &kFp8), ModuleOf("mlp.fc", nullptr)});
  EXPECT_EQ(quantization["quant_algo"], "FP8");
  const auto excluded = quantization["exclude_modules"].get<std::vector<std::string>>();
  for (const char* const name :
       {"*lm_head", "*router", "*vocab_embedding", "*position_embedding", "transformer.layers.0.mlp.fc"}) {
    EXPECT_THAT(excluded, Contains(name));
  }
  EXPECT_THAT(excluded, Not(Contains(HasSubstr("qkv"))));
}

TEST(TensorRtLlmQuantization, GroupsAreSaidOfFormatsThatHaveThem) {
  const json awq = QuantizationOf({ModuleOf("attention.qkv", &kInt4Awq)});
  EXPECT_EQ(awq["group_size"], 128);
  EXPECT_EQ(awq["has_zero_point"], false);
  EXPECT_EQ(awq["pre_quant_scale"], true);
  EXPECT_EQ(QuantizationOf({ModuleOf("attention.qkv", &kNvfp4)})["group_size"], 16);
  EXPECT_FALSE(QuantizationOf({ModuleOf("attention.qkv", &kFp8)}).contains("group_size"));
}

TEST(TensorRtLlmQuantization, TheNormBeforeAKeptModuleDoesNotQuantizeForIt) {
  const auto excluded = QuantizationOf({ModuleOf("attention.qkv", nullptr), ModuleOf("mlp.fc", &kFp8PerChannel)})
                            .at("exclude_modules")
                            .get<std::vector<std::string>>();
  EXPECT_THAT(excluded, Contains("*ln_f"));
  EXPECT_THAT(excluded, Contains("transformer.layers.0.input_layernorm"));
  EXPECT_THAT(excluded, Not(Contains("transformer.layers.0.post_layernorm")));
}

TEST(TensorRtLlmQuantization, AMixtureListsItsLayers) {
  const auto text =
      Describe({ModuleOf("attention.qkv", &kFp8), ModuleOf("mlp.fc", &kNvfp4), ModuleOf("mlp.proj", nullptr)});
  ASSERT_TRUE(text.ok()) << text.status();
  ASSERT_EQ(text->texts.size(), 2);
  EXPECT_EQ(json::parse(text->texts[0].content)["quantization"],
            (json{{"quant_algo", "MIXED_PRECISION"}, {"kv_cache_quant_algo", nullptr}}));
  EXPECT_EQ(text->texts[1].path, "quant_cfg.json");
  EXPECT_EQ(json::parse(text->texts[1].content)["quantized_layers"],
            (json{{"transformer.layers.0.attention.qkv", {{"quant_algo", "FP8"}}},
                  {"transformer.layers.0.mlp.fc", {{"quant_algo", "NVFP4"}, {"group_size", 16}}}}));
  EXPECT_THAT(Refusal(Describe({ModuleOf("attention.qkv", &kFp8), ModuleOf("mlp.fc", &kInt8)})), HasSubstr("int8"));
}

TEST(TensorRtLlmQuantization, VersionsThatDoNotKnowAFormatAreRefusedAndUnnamedOnesWarnedOf) {
  const std::vector<RankModule> modules = {ModuleOf("attention.qkv", &kNvfp4)};
  EXPECT_THAT(Refusal(Describe(modules, "0.15")), HasSubstr("0.17"));
  EXPECT_TRUE(Describe(modules, "0.17")->warnings.empty());
  EXPECT_THAT(Describe(modules)->warnings, Contains(HasSubstr("0.17")));
}

TEST(TensorRtLlmQuantization, SizesThatTheBuilderRoundsUpAreRefusedOfVersionsThatDo) {
  const std::vector<RankModule> modules = {ModuleOf("attention.qkv", &kInt8, 128, 64)};
  EXPECT_THAT(Refusal(Describe(modules, "0.17", 2)), HasSubstr("multiples of 128"));
  EXPECT_TRUE(Describe(modules, "0.12", 2).ok());
  EXPECT_TRUE(Describe(modules, "0.17", 1).ok());
  EXPECT_THAT(Describe(modules, "", 2)->warnings, Contains(HasSubstr("multiples of 64")));
}

TEST(TensorRtLlmQuantization, GroupsThatOneTransposeWouldMissAreRefusedOfItsVersions) {
  const std::vector<RankModule> modules = {ModuleOf("mlp.proj", &kInt4Awq, 128, std::int64_t{128} * 128)};
  EXPECT_THAT(Refusal(Describe(modules, "0.16")), HasSubstr("more rows"));
  EXPECT_TRUE(Describe(modules, "0.13").ok());
  EXPECT_TRUE(Describe(modules, "1.0").ok());
  EXPECT_THAT(Describe(modules)->warnings, Contains(HasSubstr("more rows")));
}

TEST(TensorRtLlmQuantization, TheKvCacheIsOfFloat8) {
  const auto described = [](KvCache kv_cache) {
    return DescribeQuantization({ModuleOf("attention.qkv", &kFp8)}, kv_cache, {}, kConfig);
  };
  EXPECT_EQ(json::parse(described(KvCache::kFp8)->texts[0].content)["quantization"]["kv_cache_quant_algo"], "FP8");
  EXPECT_THAT(Refusal(described(KvCache::kNvfp4)), HasSubstr("fp8 would work"));
}

}  // namespace
}  // namespace slipway::engine
