#include "worker/engine/plan/identity_builder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/error.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/temporary_directory.h"
#include "worker/engine/plan/inspection.h"
#include "worker/engine/plan/make_plan.h"
#include "worker/engine/plan/plan_checker.h"
#include "worker/engine/plan/plan_hash.h"

namespace slipway::engine {
namespace {

using nlohmann::json;
using test::HfTensor;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kFp8 = R"({"architectures":["MForCausalLM"],"model_type":"m","torch_dtype":"bfloat16",
  "quantization_config":{"quant_method":"fp8","weight_block_size":[128,128]},"vocab_size":7})";

HfTensor Tensor(const std::string& name, const std::string& dtype, std::vector<std::int64_t> shape) {
  std::int64_t bytes = InfoOf(*DTypeFromSafetensorsName(dtype)).bytes;
  for (const std::int64_t extent : shape) {
    bytes *= extent;
  }
  return {name, dtype, std::move(shape), std::string(static_cast<std::size_t>(bytes), '\1')};
}

template <typename Value>
ExportOptions With(Value ExportOptions::*member, Value value) {
  ExportOptions options;
  options.*member = std::move(value);
  return options;
}

class Identity : public testing::Test {
 protected:
  void Write(const std::string& config, const std::vector<HfTensor>& tensors) {
    directory_.Write("config.json", config);
    directory_.Write("model.safetensors", test::SafetensorsFile(tensors));
  }
  void WriteFp8() {
    Write(kFp8, {Tensor("l.weight_scale_inv", "F32", {2, 3}), Tensor("l.weight", "F8_E4M3", {130, 300}),
                 Tensor("norm.weight", "BF16", {5}), Tensor("gate.e_score_correction_bias", "F32", {4}),
                 Tensor("head.weight", "F32", {2, 2}), Tensor("ids", "I64", {2})});
  }
  absl::StatusOr<std::shared_ptr<const ExportPlan>> Plan(std::optional<DType> dtype = std::nullopt,
                                                         ExportOptions options = {}) {
    options.checkpoint = directory_.path();
    options.dtype = dtype;
    return MakePlan(options);
  }
  void ExpectRefused(DType dtype, Reason reason, const std::string& tensor, const std::string& words) {
    const absl::Status status = Plan(dtype).status();
    EXPECT_EQ(ReasonOf(status), reason) << Describe(status);
    EXPECT_EQ(WhereOf(status).tensor, tensor) << Describe(status);
    EXPECT_THAT(std::string(status.message()), HasSubstr(words));
  }
  static std::vector<std::string> NamesOf(const ExportPlan& plan) {
    std::vector<std::string> names;
    for (const OutputTensor& tensor : plan.tensors) {
      names.push_back(tensor.name);
    }
    return names;
  }
  static const OutputTensor& Find(const ExportPlan& plan, std::string_view name) {
    return *std::ranges::find(plan.tensors, name, &OutputTensor::name);
  }

  test::TemporaryDirectory directory_;
};

TEST_F(Identity, EveryTensorKeepsNameDTypeShapeAndPlaceAndConfigIsTheSourcesOwn) {
  const std::string config = R"( {"model_type" : "never_heard_of","architectures":["OfNoFamily"], "x":1e-05})";
  Write(config,
        {Tensor("z", "I32", {2, 3}), Tensor("a", "F64", {}), Tensor("m", "BOOL", {0, 4}), Tensor("f", "F8_E5M2", {3})});
  const auto plan = Plan();
  ASSERT_TRUE(plan.ok()) << Describe(plan.status());
  EXPECT_EQ((*plan)->architecture, "OfNoFamily");
  EXPECT_EQ((*plan)->model_type, "never_heard_of");
  EXPECT_THAT(NamesOf(**plan), ElementsAre("z", "a", "m", "f"));
  for (const OutputTensor& tensor : (*plan)->tensors) {
    EXPECT_TRUE(tensor.transform.IsCopy()) << tensor.name;
  }
  EXPECT_EQ(Find(**plan, "z").dtype, DType::kI32);
  EXPECT_EQ(Find(**plan, "z").shape, (Shape{2, 3}));
  ASSERT_EQ((*plan)->texts.size(), 1U);
  EXPECT_EQ((*plan)->texts[0].content, config);
  EXPECT_THAT((*plan)->warnings, testing::IsEmpty());
}

TEST_F(Identity, TokenizerAndGenerationConfigComeAlongAndCodeOnlyWhenAllowed) {
  Write(R"({"auto_map":{"AutoModel":"modeling_m.M"},"k":1})", {Tensor("a", "F16", {1})});
  for (const char* name : {"tokenizer.json", "generation_config.json", "modeling_m.py", "README.md"}) {
    directory_.Write(name, "{}");
  }
  const auto plan = Plan();
  ASSERT_TRUE(plan.ok()) << Describe(plan.status());
  ASSERT_EQ((*plan)->sidecars.size(), 2U);
  EXPECT_EQ((*plan)->sidecars[0].path, "generation_config.json");
  EXPECT_EQ((*plan)->sidecars[1].path, "tokenizer.json");
  EXPECT_EQ(json::parse((*plan)->texts[0].content), json::parse(R"({"k":1})"));
  const auto allowed = Plan({}, With(&ExportOptions::allow_custom_code, true));
  ASSERT_TRUE(allowed.ok());
  EXPECT_EQ((*allowed)->sidecars.size(), 3U);
  EXPECT_THAT((*allowed)->texts[0].content, HasSubstr("auto_map"));
}

TEST_F(Identity, AChosenDTypeConvertsFloatingPointTensorsAndSaysSo) {
  Write(R"({"dtype":"float32","text_config":{"torch_dtype":"float32","b":2},"a":1})",
        {Tensor("w", "F32", {2}), Tensor("h", "F16", {2}), Tensor("i", "I64", {2})});
  const auto plan = Plan(DType::kBF16);
  ASSERT_TRUE(plan.ok()) << Describe(plan.status());
  EXPECT_EQ(Find(**plan, "w").dtype, DType::kBF16);
  EXPECT_EQ(Find(**plan, "h").dtype, DType::kBF16);
  EXPECT_EQ(Find(**plan, "i").dtype, DType::kI64);
  EXPECT_EQ(json::parse((*plan)->texts[0].content),
            json::parse(R"({"dtype":"bfloat16","text_config":{"torch_dtype":"bfloat16","b":2},"a":1})"));
  EXPECT_THAT((*plan)->warnings, testing::Contains(HasSubstr("1 tensor is converted from F32 to BF16")));
}

TEST_F(Identity, AConfigWithoutADTypeGetsOne) {
  Write("{}", {Tensor("w", "F32", {2})});
  EXPECT_EQ(json::parse((*Plan(DType::kF16))->texts[0].content), json::parse(R"({"torch_dtype":"float16"})"));
}

TEST_F(Identity, AQuantizedSourceIsCopiedWithItsConfigAndScales) {
  WriteFp8();
  directory_.Write("hf_quant_config.json", "{}");
  const auto plan = Plan();
  ASSERT_TRUE(plan.ok()) << Describe(plan.status());
  EXPECT_EQ((*plan)->tensors.size(), 6U);
  EXPECT_EQ((*plan)->texts[0].content, kFp8);
  EXPECT_EQ((*plan)->sidecars[0].path, "hf_quant_config.json");
  EXPECT_EQ(Find(**plan, "l.weight").dtype, DType::kF8E4M3);
  EXPECT_THAT((*plan)->warnings, ElementsAre(HasSubstr("fp8")));
}

TEST_F(Identity, Fp8BlocksAreDequantizedAndTheirScalesConsumed) {
  WriteFp8();
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    const auto plan = Plan(dtype);
    ASSERT_TRUE(plan.ok()) << Describe(plan.status());
    EXPECT_THAT(NamesOf(**plan),
                ElementsAre("l.weight", "norm.weight", "gate.e_score_correction_bias", "head.weight", "ids"));
    const OutputTensor& weight = Find(**plan, "l.weight");
    EXPECT_EQ(weight.dtype, dtype);
    ASSERT_TRUE(weight.scales);
    EXPECT_EQ((*plan)->checkpoint->tensors[static_cast<std::size_t>(weight.scales->regions.at(0).tensor)].name,
              "l.weight_scale_inv");
    EXPECT_EQ(weight.scales->rows, 128);
    EXPECT_EQ(Find(**plan, "gate.e_score_correction_bias").dtype, DType::kF32);
    const json config = json::parse((*plan)->texts[0].content);
    EXPECT_FALSE(config.contains("quantization_config"));
    EXPECT_EQ(config["torch_dtype"], InfoOf(dtype).torch_name);
    EXPECT_EQ(config["vocab_size"], 7);
    EXPECT_EQ((*plan)->input_bytes, 2 * 3 * 4 + 130 * 300 + 5 * 2 + 4 * 4 + 4 * 4 + 2 * 8);
  }
  const json plan = json::parse(PlanToJson(**Plan(DType::kBF16)));
  EXPECT_EQ(plan["files"][0]["tensors"][0]["scales"][0]["tensor"], "l.weight_scale_inv");
  EXPECT_EQ(plan["files"][0]["tensors"][0]["transform"], "dequantize F8_E4M3 blocks of 128 x 128 to BF16");
}

TEST_F(Identity, AMissingMisshapenOrForeignScaleIsRefusedByName) {
  Write(kFp8, {Tensor("l.weight", "F8_E4M3", {130, 300})});
  ExpectRefused(DType::kBF16, Reason::kTensorMissing, "l.weight_scale_inv", "l.weight");
  for (const auto& shape : std::vector<std::vector<std::int64_t>>{{3, 2}, {1, 3}, {6}, {2, 3, 1}}) {
    Write(kFp8, {Tensor("l.weight", "F8_E4M3", {130, 300}), Tensor("l.weight_scale_inv", "F32", shape)});
    ExpectRefused(DType::kBF16, Reason::kTensorShapeMismatch, "l.weight_scale_inv", "[2, 3] blocks");
  }
  Write(kFp8, {Tensor("l.weight", "F8_E4M3", {130, 300}), Tensor("l.weight_scale_inv", "F8_E8M0", {2, 3})});
  ExpectRefused(DType::kBF16, Reason::kCheckpointUnsupported, "l.weight_scale_inv", "F8_E8M0");
  Write(kFp8, {Tensor("l.weight", "F8_E4M3", {2, 130, 300}), Tensor("l.weight_scale_inv", "F32", {2, 2, 3})});
  ExpectRefused(DType::kBF16, Reason::kCheckpointUnsupported, "l.weight", "matrices");
  Write(kFp8, {Tensor("l.weight", "BF16", {2}), Tensor("l.weight_scale_inv", "F32", {1, 1})});
  ExpectRefused(DType::kBF16, Reason::kTensorUnknown, "l.weight_scale_inv", "scale");
  Write(kFp8, {Tensor("l.weight", "BF16", {2}), Tensor("l.input_scale", "F32", {})});
  ExpectRefused(DType::kBF16, Reason::kTensorUnknown, "l.input_scale", "scale");
}

TEST_F(Identity, WhatCannotBeConvertedIsRefusedByName) {
  Write("{}", {Tensor("l.weight", "F8_E4M3", {2, 2}), Tensor("l.weight_scale_inv", "F32", {1, 1})});
  ExpectRefused(DType::kBF16, Reason::kCheckpointUnsupported, "l.weight", "F8_E4M3");
  Write(kFp8, {Tensor("l.weight", "F8_E5M2", {2, 2})});
  ExpectRefused(DType::kBF16, Reason::kCheckpointUnsupported, "l.weight", "F8_E5M2");
  Write("{}", {Tensor("w", "F64", {2})});
  ExpectRefused(DType::kBF16, Reason::kCheckpointUnsupported, "w", "F64");
}

TEST_F(Identity, OtherQuantizationsAreRefusedByNameWithADTypeAndCopiedWithout) {
  const std::vector<HfTensor> tensors = {Tensor("l.qweight", "I32", {2, 2}), Tensor("l.scales", "F16", {2})};
  for (const char* method : {"gptq", "awq", "modelopt", "compressed-tensors", "fp8", "mxfp4"}) {
    Write(std::string(R"({"quantization_config":{"quant_method":")") + method + R"("}})", tensors);
    ExpectRefused(DType::kBF16, Reason::kOptionUnsupported, "", std::string("(") + method + ")");
    EXPECT_TRUE(Plan().ok());
  }
  Write(R"({"text_config":{"quantization_config":{"quant_method":"gptq"}}})", tensors);
  ExpectRefused(DType::kBF16, Reason::kOptionUnsupported, "", "(gptq)");
  Write("{}", tensors);
  directory_.Write("hf_quant_config.json", "{}");
  ExpectRefused(DType::kBF16, Reason::kOptionUnsupported, "", "(modelopt)");
}

TEST_F(Identity, AQuantizationConfigOfNonsenseIsRefused) {
  for (const char* quantization :
       {"7", R"({"quant_method":7})", R"({"quant_method":"fp8","weight_block_size":[0,128]})",
        R"({"quant_method":"fp8","weight_block_size":[128]})", R"({"quant_method":"fp8","weight_block_size":[-1,128]})",
        R"({"quant_method":"fp8","weight_block_size":[128.5,128]})",
        R"({"quant_method":"fp8","weight_block_size":[18446744073709551615,128]})"}) {
    Write(std::string(R"({"quantization_config":)") + quantization + "}", {Tensor("w", "BF16", {2})});
    EXPECT_EQ(ReasonOf(Plan(DType::kBF16).status()), Reason::kConfigurationInvalid) << quantization;
  }
}

TEST_F(Identity, OptionsThatDoNotGoWithItAreRefused) {
  Write("{}", {Tensor("w", "BF16", {2})});
  EXPECT_EQ(ReasonOf(Plan({}, With(&ExportOptions::hf_config, directory_.path())).status()), Reason::kInvalidArgument);
  EXPECT_EQ(ReasonOf(Plan({}, With(&ExportOptions::architecture, std::string("LlamaForCausalLM"))).status()),
            Reason::kInvalidArgument);
}

TEST_F(Identity, TheCheckerFindsEveryWayToLoseDoubleOrBendATensor) {
  WriteFp8();
  const ExportPlan sound = **Plan(DType::kBF16);
  ASSERT_TRUE(CheckIdentityTensors(sound).ok());
  const auto reason = [&](auto mutate) {
    ExportPlan plan = sound;
    mutate(plan);
    return ReasonOf(CheckIdentityTensors(plan));
  };
  EXPECT_EQ(reason([](ExportPlan& p) { p.tensors.pop_back(); }), Reason::kTensorUnknown);
  EXPECT_EQ(reason([](ExportPlan& p) { p.tensors.push_back(p.tensors.back()); }), Reason::kTensorDuplicated);
  EXPECT_EQ(reason([](ExportPlan& p) { p.tensors[1].name = "other"; }), Reason::kTensorUnknown);
  EXPECT_EQ(reason([](ExportPlan& p) { std::swap(p.tensors[1].name, p.tensors[3].name); }),
            Reason::kTensorShapeMismatch);
  EXPECT_EQ(reason([](ExportPlan& p) { p.tensors[1].transform.add_one = true; }), Reason::kTensorShapeMismatch);
  const auto scales = [](ExportPlan& p) -> std::optional<BlockScales>& {
    return std::ranges::find_if(p.tensors, [](const OutputTensor& tensor) { return tensor.scales.has_value(); })
        ->scales;
  };
  EXPECT_EQ(reason([&](ExportPlan& p) { scales(p).reset(); }), Reason::kTensorUnknown);
  EXPECT_EQ(reason([&](ExportPlan& p) { scales(p)->rows = 64; }), Reason::kTensorShapeMismatch);
  EXPECT_EQ(reason([&](ExportPlan& p) { scales(p)->columns = 0; }), Reason::kTensorShapeMismatch);
  EXPECT_EQ(reason([&](ExportPlan& p) { scales(p)->regions.at(0).tensor = 99; }), Reason::kInternal);
}

TEST_F(Identity, ItsHashTellsBlocksApart) {
  WriteFp8();
  const auto made = Plan(DType::kBF16);
  ASSERT_TRUE(made.ok()) << Describe(made.status());
  ExportPlan plan = **made;
  const std::string hash = plan.hash;
  const std::string output_hash = plan.output_hash;
  const auto scaled = std::ranges::find_if(plan.tensors, [](const auto& tensor) { return tensor.scales.has_value(); });
  ASSERT_NE(scaled, plan.tensors.end());
  scaled->scales->rows = 64;
  HashPlan(plan);
  EXPECT_NE(plan.hash, hash);
  EXPECT_EQ(plan.output_hash, output_hash);
}

TEST_F(Identity, InspectionTellsFormatFamilySizesAndQuantization) {
  WriteFp8();
  const auto inspected = Inspect({.checkpoint = directory_.path(), .iteration = {}, .tensors = true});
  ASSERT_TRUE(inspected.ok()) << Describe(inspected.status());
  EXPECT_EQ((*inspected)["format"], "huggingface");
  EXPECT_EQ((*inspected)["architecture"], "MForCausalLM");
  EXPECT_EQ((*inspected)["model_type"], "m");
  EXPECT_EQ((*inspected)["configuration"]["vocabulary_size"], 7);
  EXPECT_EQ((*inspected)["configuration"]["quantization"], "fp8");
  EXPECT_EQ((*inspected)["dtypes"], nlohmann::ordered_json::parse(R"({"BF16":1,"F32":3,"F8_E4M3":1,"I64":1})"));
  EXPECT_EQ((*inspected)["problems"].size(), 0U);
  EXPECT_EQ((*inspected)["tensors"].size(), 6U);
}

}  // namespace
}  // namespace slipway::engine
