// What a checkpoint must not get away with: each is refused by name, before anything is written.
#include <gtest/gtest.h>

#include <string>

#include "common/error.h"
#include "tests/worker/engine/plan/model_checkpoint.h"
#include "worker/engine/plan/make_plan.h"

namespace slipway::engine {
namespace {

using test::AddTensor;
using test::MakeCheckpoint;
using test::RemoveTensor;
using test::SetArgument;
using test::Stored;
using test::TinyModel;

using Names = std::vector<std::string>;

TinyModel PerLayer() {
  TinyModel m;
  m.layers = 3;
  m.stacked = false;
  return m;
}

absl::Status Plan(const std::shared_ptr<Checkpoint>& checkpoint, ExportOptions options = {}) {
  options.checkpoint = "checkpoint";
  return MakePlanOf(checkpoint, options).status();
}

TEST(PlanRefusal, AMissingTensorIsNamed) {
  for (const auto& [stored, canonical] :
       {std::pair("decoder.layers.1.self_attention.linear_qkv.layer_norm_weight",
                  "decoder.layers.1.input_layernorm.weight"),
        std::pair("decoder.final_layernorm.weight", "decoder.final_layernorm.weight"),
        std::pair("decoder.layers.2.mlp.linear_fc2.weight", "decoder.layers.2.mlp.linear_fc2.weight"),
        std::pair("output_layer.weight", "output_layer.weight")}) {
    const auto checkpoint = MakeCheckpoint(PerLayer());
    RemoveTensor(*checkpoint, stored);
    const absl::Status status = Plan(checkpoint);
    EXPECT_EQ(ReasonOf(status), Reason::kTensorMissing) << Describe(status);
    EXPECT_EQ(WhereOf(status).tensor, canonical);
  }
}

TEST(PlanRefusal, AMissingLayerIsNamedWithTheNumberOfItsTensors) {
  TinyModel fewer = PerLayer();
  fewer.layers = 2;
  const auto checkpoint = MakeCheckpoint(fewer);
  SetArgument(*checkpoint, "num_layers", 3);
  const absl::Status status = Plan(checkpoint);
  EXPECT_EQ(ReasonOf(status), Reason::kTensorMissing) << Describe(status);
  EXPECT_EQ(WhereOf(status).tensor, "decoder.layers.2.input_layernorm.weight");
  EXPECT_NE(Describe(status).find("and 3 more"), std::string::npos) << Describe(status);
}

TEST(PlanRefusal, AnExtraLayerIsNamed) {
  const auto checkpoint = MakeCheckpoint(PerLayer());
  SetArgument(*checkpoint, "num_layers", 2);
  const absl::Status status = Plan(checkpoint);
  EXPECT_EQ(ReasonOf(status), Reason::kTensorUnknown) << Describe(status);
  EXPECT_TRUE(WhereOf(status).tensor.starts_with("decoder.layers.2.")) << Describe(status);
}

TEST(PlanRefusal, AnUnknownTensorIsNamed) {
  const auto checkpoint = MakeCheckpoint(PerLayer());
  AddTensor(*checkpoint, Stored("decoder.layers.1.self_attention.surprise", DType::kBF16, {4}));
  const absl::Status status = Plan(checkpoint);
  EXPECT_EQ(ReasonOf(status), Reason::kTensorUnknown) << Describe(status);
  EXPECT_EQ(WhereOf(status).tensor, "decoder.layers.1.self_attention.surprise");
}

TEST(PlanRefusal, ANormUnderTwoNamesIsNamed) {
  const auto checkpoint = MakeCheckpoint(PerLayer());
  AddTensor(*checkpoint, Stored("decoder.layers.1.input_layernorm.weight", DType::kBF16, {12}));
  const absl::Status status = Plan(checkpoint);
  EXPECT_EQ(ReasonOf(status), Reason::kTensorDuplicated) << Describe(status);
  EXPECT_NE(Describe(status).find("decoder.layers.1.input_layernorm.weight"), std::string::npos) << Describe(status);
}

TEST(PlanRefusal, ATiedModelWithAnOutputLayerIsRefusedAndSaysWhy) {
  const auto checkpoint = MakeCheckpoint(PerLayer());
  SetArgument(*checkpoint, "untie_embeddings_and_output_weights", false);
  const absl::Status status = Plan(checkpoint);
  EXPECT_EQ(ReasonOf(status), Reason::kTensorUnknown) << Describe(status);
  EXPECT_EQ(WhereOf(status).tensor, "output_layer.weight");
  EXPECT_NE(Describe(status).find("ties"), std::string::npos) << Describe(status);
}

TEST(PlanRefusal, AShapeThatContradictsTheConfigurationIsNamedWithBoth) {
  const auto checkpoint = MakeCheckpoint(PerLayer());
  SetArgument(*checkpoint, "kv_channels", 6);
  const absl::Status status = Plan(checkpoint);
  EXPECT_EQ(ReasonOf(status), Reason::kTensorShapeMismatch) << Describe(status);
  EXPECT_EQ(WhereOf(status).tensor, "decoder.layers.0.self_attention.linear_qkv.weight");
  EXPECT_NE(Describe(status).find("[24, 12]"), std::string::npos) << Describe(status);
  EXPECT_NE(Describe(status).find("[48, 12]"), std::string::npos) << Describe(status);
}

TEST(PlanRefusal, OneLayerOfAnotherShapeIsNamed) {
  const auto checkpoint = MakeCheckpoint(PerLayer());
  RemoveTensor(*checkpoint, "decoder.layers.2.mlp.linear_fc2.weight");
  AddTensor(*checkpoint, Stored("decoder.layers.2.mlp.linear_fc2.weight", DType::kBF16, {12, 11}));
  const absl::Status status = Plan(checkpoint);
  EXPECT_EQ(ReasonOf(status), Reason::kTensorShapeMismatch) << Describe(status);
  EXPECT_EQ(WhereOf(status).tensor, "decoder.layers.2.mlp.linear_fc2.weight");
}

TEST(PlanRefusal, AVocabularyLargerThanTheEmbeddingIsRefused) {
  const auto checkpoint = MakeCheckpoint(PerLayer());
  SetArgument(*checkpoint, "vocab_size", 17);
  const absl::Status status = Plan(checkpoint);
  EXPECT_EQ(ReasonOf(status), Reason::kTensorShapeMismatch) << Describe(status);
  EXPECT_EQ(WhereOf(status).tensor, "embedding.word_embeddings.weight");
}

TEST(PlanRefusal, WeightsThatAreNotFloatingPointNumbersAreRefused) {
  for (const DType dtype : {DType::kU8, DType::kI32, DType::kF64}) {
    const auto checkpoint = MakeCheckpoint(PerLayer());
    RemoveTensor(*checkpoint, "decoder.layers.1.mlp.linear_fc2.weight");
    AddTensor(*checkpoint, Stored("decoder.layers.1.mlp.linear_fc2.weight", dtype, {12, 10}));
    const absl::Status status = Plan(checkpoint);
    EXPECT_EQ(ReasonOf(status), Reason::kCheckpointUnsupported) << Describe(status);
    EXPECT_EQ(WhereOf(status).tensor, "decoder.layers.1.mlp.linear_fc2.weight");
  }
}

TEST(PlanRefusal, OptionsOfLaterVersionsAreRefusedWithAdvice) {
  const absl::Status status =
      Plan(MakeCheckpoint(PerLayer()), test::OptionsWith<&ExportOptions::quantization>("int4-gptq"));
  EXPECT_EQ(ReasonOf(status), Reason::kOptionUnsupported) << Describe(status);
  EXPECT_NE(Describe(status).find("yet, only"), std::string::npos) << Describe(status);
}

TEST(PlanRefusal, WhatOnlyCalibrationMakesNeedsACalibratedCheckpoint) {
  for (const char* format : {"int4-awq", "int8-smoothquant", "w4a8-awq", "nvfp4-awq"}) {
    const absl::Status status =
        Plan(MakeCheckpoint(PerLayer()), test::OptionsWith<&ExportOptions::quantization>(format));
    EXPECT_EQ(ReasonOf(status), Reason::kOptionUnsupported) << Describe(status);
    EXPECT_NE(Describe(status).find("which this one was not"), std::string::npos) << Describe(status);
  }
}

TEST(PlanRefusal, WordsThatNameNothingAndRepetitionsAreInvalid) {
  for (const ExportOptions& options : {test::OptionsWith<&ExportOptions::targets>(Names{"onnx"}),
                                       test::OptionsWith<&ExportOptions::targets>(Names{"huggingface", "huggingface"}),
                                       test::OptionsWith<&ExportOptions::quantization>("nonsense")}) {
    const absl::Status status = Plan(MakeCheckpoint(PerLayer()), options);
    EXPECT_EQ(ReasonOf(status), Reason::kInvalidArgument) << Describe(status);
  }
}

TEST(PlanRefusal, HowToQuantizeIsRefusedWhereNothingIsQuantized) {
  for (const ExportOptions& options :
       {test::OptionsWith<&ExportOptions::kv_cache>("fp8"), test::OptionsWith<&ExportOptions::config_form>("modelopt"),
        test::OptionsWith<&ExportOptions::scale_search>("mse"),
        test::OptionsWith<&ExportOptions::ranges>("/nonexistent.safetensors")}) {
    const absl::Status status = Plan(MakeCheckpoint(PerLayer()), options);
    EXPECT_EQ(ReasonOf(status), Reason::kOptionUnsupported) << Describe(status);
    EXPECT_NE(Describe(status).find("give --quantization or --recipe"), std::string::npos) << Describe(status);
  }
}

TEST(PlanRefusal, WordsThatAskForNothingAreFollowed) {
  ExportOptions options;
  options.kv_cache = "none";
  options.config_form = "auto";
  options.scale_search = "amax";
  const absl::Status status = Plan(MakeCheckpoint(PerLayer()), options);
  EXPECT_TRUE(status.ok()) << Describe(status);
}

}  // namespace
}  // namespace slipway::engine
