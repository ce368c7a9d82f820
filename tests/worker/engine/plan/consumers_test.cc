#include "worker/engine/plan/consumers.h"

#include <cstdint>
#include <string>
#include <string_view>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace slipway::engine {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::uint8_t kAll = kLoadsVllm | kLoadsSglang | kLoadsTensorRtLlm | kLoadsTransformers;

void Add(ExportPlan& plan, const std::string& module, std::string_view format, ConfigForm form) {
  QuantizedWeight& weight = plan.quantized.emplace_back();
  weight.module = module;
  weight.format = FindFormat(format);
  weight.layout = ChooseLayout(*weight.format, {.form = form});
  weight.coding = weight.layout->coding;
  weight.rows = weight.columns = 256;
}

ExportPlan PlanOf(std::string architecture) {
  ExportPlan plan;
  plan.architecture = std::move(architecture);
  return plan;
}

TEST(Consumers, NothingKeepsThemFromAPlainModel) {
  ExportPlan plan = PlanOf("LlamaForCausalLM");
  Add(plan, "model.layers.0.mlp.up_proj", "fp8-per-channel", ConfigForm::kCompressedTensors);
  EXPECT_EQ(KeptFrom(plan), 0);
  WarnOfConsumers(plan);
  EXPECT_THAT(plan.warnings, IsEmpty());
}

TEST(Consumers, NoneLoadsGptOssExpertsOneByOne) {
  ExportPlan plan = PlanOf("GptOssForCausalLM");
  Add(plan, "model.layers.0.self_attn.q_proj", "fp8-per-channel", ConfigForm::kCompressedTensors);
  EXPECT_EQ(KeptFrom(plan), 0);
  Add(plan, "model.layers.0.mlp.experts.3.gate_proj", "fp8-per-channel", ConfigForm::kCompressedTensors);
  EXPECT_EQ(KeptFrom(plan), kAll);
  WarnOfConsumers(plan);
  EXPECT_THAT(plan.warnings, ElementsAre(HasSubstr("--config-form native")));
}

TEST(Consumers, TransformersDoesNotQuantizeLayersThatAreNotItsLinearOnes) {
  for (const char* architecture : {"GPT2LMHeadModel", "FalconForCausalLM"}) {
    ExportPlan plan = PlanOf(architecture);
    Add(plan, "transformer.h.0.mlp.c_fc", "fp8-per-channel", ConfigForm::kCompressedTensors);
    EXPECT_EQ(KeptFrom(plan), kLoadsTransformers) << architecture;
  }
}

TEST(Consumers, SglangTakesAMixtureOfModelOptForItsOwnUnlessItHasNvfp4) {
  ExportPlan plan = PlanOf("LlamaForCausalLM");
  Add(plan, "model.layers.0.self_attn.o_proj", "fp8-per-channel", ConfigForm::kModelOpt);
  EXPECT_EQ(KeptFrom(plan), 0);
  Add(plan, "model.layers.0.mlp.down_proj", "mxfp8", ConfigForm::kModelOpt);
  EXPECT_EQ(KeptFrom(plan), kLoadsSglang);
  Add(plan, "model.layers.1.mlp.down_proj", "nvfp4", ConfigForm::kModelOpt);
  EXPECT_EQ(KeptFrom(plan), 0);
}

}  // namespace
}  // namespace slipway::engine
