// A checkpoint whose weights ModelOpt divided by scales of their inputs: where these go.
#include "worker/engine/plan/input_scales.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>

#include "common/error.h"
#include "tests/support/random_export.h"
#include "tests/support/safetensors_writer.h"
#include "worker/engine/plan/make_plan.h"

namespace slipway::engine {
namespace {

using testing::Contains;
using testing::HasSubstr;

// A dense Llama of one layer, INT4 AWQ in blocks of 32, TP 2.
absl::StatusOr<std::shared_ptr<const ExportPlan>> TryPlan(const std::string& form, const std::string& recipe = "") {
  ExportOptions options;
  options.checkpoint = std::string(SLIPWAY_TEST_DATA) + "/calibrated/llama3_int4_awq_b32_tp2";
  options.quantization = recipe.empty() ? "checkpoint" : "none";
  options.recipe = recipe;
  options.config_form = form;
  return MakePlan(options);
}

std::shared_ptr<const ExportPlan> PlanOf(const std::string& form, const std::string& recipe = "") {
  auto plan = TryPlan(form, recipe);
  EXPECT_TRUE(plan.ok()) << Describe(plan.status());
  return plan.ok() ? *plan : std::make_shared<const ExportPlan>();
}

const OutputTensor* TensorOf(const ExportPlan& plan, const std::string& name) {
  const auto found = std::ranges::find(plan.tensors, name, &OutputTensor::name);
  return found == plan.tensors.end() ? nullptr : &*found;
}

const QuantizedWeight* WeightOf(const ExportPlan& plan, const std::string& module) {
  const auto found = std::ranges::find(plan.quantized, module, &QuantizedWeight::module);
  return found == plan.quantized.end() ? nullptr : &*found;
}

constexpr std::string_view kNormed[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj",
                                        "mlp.up_proj"};
constexpr std::string_view kOthers[] = {"self_attn.o_proj", "mlp.down_proj"};

std::string Name(std::string_view module) { return "model.layers.0." + std::string(module); }

TEST(InputScales, AreStoredWhereTheFormStoresThem) {
  const auto plan = PlanOf("modelopt");
  ASSERT_EQ(plan->quantized.size(), 7U);
  for (const QuantizedWeight& weight : plan->quantized) {
    EXPECT_NE(weight.pre_quant_scale, nullptr) << weight.module;
    EXPECT_EQ(weight.values.column_factors, nullptr) << weight.module;
    EXPECT_TRUE(weight.amaxes.has_value()) << weight.module;
  }
  for (const OutputTensor& tensor : plan->tensors) {
    EXPECT_EQ(tensor.column_factors, nullptr) << tensor.name;
  }
}

TEST(InputScales, GoToNormsWhereTheFormDoesNotStoreThemAndOtherwiseBackIntoWeights) {
  const auto stored = PlanOf("modelopt");
  for (const char* form : {"compressed-tensors", "native"}) {
    const auto plan = PlanOf(form);
    ASSERT_EQ(plan->quantized.size(), 7U);
    for (const std::string_view module : kNormed) {
      const QuantizedWeight& weight = *WeightOf(*plan, Name(module));
      EXPECT_EQ(weight.pre_quant_scale, nullptr) << module;
      EXPECT_EQ(weight.values.column_factors, nullptr) << module << " is as it was calibrated";
      const std::string norm = module.starts_with("mlp") ? "post_attention_layernorm" : "input_layernorm";
      const OutputTensor* const tensor = TensorOf(*plan, Name(norm) + ".weight");
      ASSERT_NE(tensor, nullptr);
      ASSERT_NE(tensor->column_factors, nullptr) << norm;
      EXPECT_EQ(*tensor->column_factors, *WeightOf(*stored, Name(module))->pre_quant_scale) << module;
    }
    for (const std::string_view module : kOthers) {
      const QuantizedWeight& weight = *WeightOf(*plan, Name(module));
      EXPECT_EQ(weight.pre_quant_scale, nullptr) << module;
      EXPECT_FALSE(weight.amaxes.has_value()) << module << " has other values than those that were calibrated";
      ASSERT_NE(weight.values.column_factors, nullptr) << module;
      EXPECT_EQ(*weight.values.column_factors, *WeightOf(*stored, Name(module))->pre_quant_scale) << module;
    }
    EXPECT_EQ(TensorOf(*plan, "model.norm.weight")->column_factors, nullptr);
    EXPECT_THAT(plan->warnings, Contains(HasSubstr("2 norms are multiplied by the scales of inputs")));
    EXPECT_THAT(plan->warnings, Contains(HasSubstr("2 weights are multiplied by the scales of inputs")));
    EXPECT_NE(plan->hash, stored->hash);
  }
}

TEST(InputScales, RangesOfBlocksAreKeptWhereTheWeightIsWhatWasCalibrated) {
  const auto plan = PlanOf("compressed-tensors");
  ASSERT_EQ(plan->quantized.size(), 7U);
  for (const std::string_view module : kNormed) {
    EXPECT_TRUE(WeightOf(*plan, Name(module))->amaxes.has_value()) << module;
  }
}

absl::StatusOr<std::shared_ptr<const ExportPlan>> PlanNamed(const std::string& format) {
  ExportOptions options;
  options.checkpoint = std::string(SLIPWAY_TEST_DATA) + "/calibrated/llama3_int4_awq_b32_tp2";
  options.quantization = format;
  options.config_form = "modelopt";
  return MakePlan(options);
}

TEST(InputScales, ACalibratedFormatAskedForByNameIsWhatTheCheckpointWasCalibratedFor) {
  const auto named = PlanNamed("int4-awq");
  ASSERT_TRUE(named.ok()) << Describe(named.status());
  const auto calibrated = PlanOf("modelopt");
  ASSERT_EQ((*named)->tensors.size(), calibrated->tensors.size());
  for (std::size_t i = 0; i < calibrated->tensors.size(); ++i) {
    EXPECT_EQ((*named)->tensors[i].name, calibrated->tensors[i].name);
    EXPECT_EQ((*named)->tensors[i].shape, calibrated->tensors[i].shape);
  }
  ASSERT_EQ((*named)->quantized.size(), calibrated->quantized.size());
  for (std::size_t i = 0; i < calibrated->quantized.size(); ++i) {
    EXPECT_EQ((*named)->quantized[i].format, calibrated->quantized[i].format);
    EXPECT_EQ(*(*named)->quantized[i].pre_quant_scale, *calibrated->quantized[i].pre_quant_scale);
  }
  const auto other = PlanNamed("w4a8-awq");
  EXPECT_EQ(ReasonOf(other.status()), Reason::kOptionUnsupported) << Describe(other.status());
  EXPECT_THAT(Describe(other.status()), HasSubstr("calibrated for int4-awq"));
  EXPECT_THAT(WhereOf(other.status()).tensor, HasSubstr("model.layers.0"));
}

TEST(InputScales, AnotherFormatGetsTheTrainedWeightsBack) {
  const auto plan = PlanNamed("fp8-per-channel");
  ASSERT_TRUE(plan.ok()) << Describe(plan.status());
  const auto stored = PlanOf("modelopt");
  ASSERT_EQ((*plan)->quantized.size(), stored->quantized.size());
  for (const std::string_view module : kOthers) {
    const QuantizedWeight* const weight = WeightOf(**plan, Name(module));
    ASSERT_NE(weight, nullptr) << module;
    EXPECT_EQ(weight->pre_quant_scale, nullptr) << module;
    ASSERT_NE(weight->values.column_factors, nullptr) << module;
    EXPECT_EQ(*weight->values.column_factors, *WeightOf(*stored, Name(module))->pre_quant_scale) << module;
  }
}

// Weights that stay as they are were divided, too.
TEST(InputScales, GoBackIntoWeightsThatARecipeLeavesOut) {
  for (const char* form : {"modelopt", "compressed-tensors"}) {
    const auto plan = PlanOf(form, "rules: [{modules: ['*mlp*'], format: int4-awq, group: 32}]");
    ASSERT_EQ(plan->quantized.size(), 3U);
    for (const char* projection : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
      const OutputTensor* const weight = TensorOf(*plan, Name("self_attn.") + projection + ".weight");
      ASSERT_NE(weight, nullptr) << projection;
      EXPECT_NE(weight->column_factors, nullptr) << projection;
    }
    EXPECT_EQ(TensorOf(*plan, Name("input_layernorm.weight"))->column_factors, nullptr);
    const bool stored = std::string_view(form) == "modelopt";
    EXPECT_EQ(TensorOf(*plan, Name("post_attention_layernorm.weight"))->column_factors == nullptr, stored);
    EXPECT_EQ(WeightOf(*plan, Name("mlp.up_proj"))->pre_quant_scale != nullptr, stored);
  }
}

// fp8 knows nothing of scales of inputs.
TEST(InputScales, AnyFormatCanBeChosenInstead) {
  const auto plan = PlanOf("compressed-tensors", "activations: dynamic\nrules: [{modules: ['*'], format: fp8}]");
  ASSERT_EQ(plan->quantized.size(), 7U);
  EXPECT_NE(TensorOf(*plan, Name("input_layernorm.weight"))->column_factors, nullptr);
  EXPECT_NE(WeightOf(*plan, Name("mlp.down_proj"))->values.column_factors, nullptr);
}

// A range of the input is of what the scales make of it.
TEST(InputScales, AWeightThatGetsThemBackHasNoRangeOfItsInput) {
  const auto plan = TryPlan("compressed-tensors", "activations: static\nrules: [{modules: ['*'], format: int8}]");
  EXPECT_EQ(ReasonOf(plan.status()), Reason::kOptionUnsupported);
  EXPECT_THAT(WhereOf(plan.status()).tensor, testing::AnyOf(HasSubstr("o_proj"), HasSubstr("down_proj")));
  EXPECT_THAT(std::string(plan.status().message()), HasSubstr("activations: dynamic"));
}

TEST(InputScales, SuppliedRangesDoNotGoWithThem) {
  const test::TemporaryDirectory directory;
  test::WriteFile(directory / "ranges.safetensors",
                  test::SafetensorsFile({{"model.layers.0.mlp.down_proj.input_amax", "F32", {}, {"\0\0\x80\x3F", 4}}}));
  ExportOptions options;
  options.checkpoint = std::string(SLIPWAY_TEST_DATA) + "/calibrated/llama3_int4_awq_b32_tp2";
  options.recipe = "rules: [{modules: ['*'], format: fp8}]";
  options.ranges = directory / "ranges.safetensors";
  const absl::Status refused = MakePlan(options).status();
  EXPECT_EQ(ReasonOf(refused), Reason::kOptionUnsupported) << Describe(refused);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("--ranges"));
}

}  // namespace
}  // namespace slipway::engine
