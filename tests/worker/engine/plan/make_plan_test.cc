#include "worker/engine/plan/make_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>
#include <string>

#include "common/error.h"
#include "tests/worker/engine/plan/model_checkpoint.h"

namespace slipway::engine {
namespace {

using test::MakeCheckpoint;
using test::TinyModel;

std::shared_ptr<const ExportPlan> PlanOf(const std::shared_ptr<const Checkpoint>& checkpoint,
                                         ExportOptions options = {}) {
  options.checkpoint = "checkpoint";
  auto plan = MakePlanOf(checkpoint, options);
  EXPECT_TRUE(plan.ok()) << Describe(plan.status());
  return *plan;
}

bool Warns(const ExportPlan& plan, std::string_view word) {
  return std::ranges::any_of(plan.warnings, [&](const std::string& w) { return w.find(word) != std::string::npos; });
}

TEST(MakePlan, EveryStepIsReported) {
  int steps = 0;
  ExportOptions options;
  options.checkpoint = "checkpoint";
  ASSERT_TRUE(MakePlanOf(MakeCheckpoint({}), options, [&steps] { ++steps; }).ok());
  EXPECT_EQ(steps, 7);  // names, model, tensors, shards, files, check, hash
}

TEST(MakePlan, WeightsOfTheTrainingRunsTypeAreCopied) {
  const auto plan = PlanOf(MakeCheckpoint({}));
  for (const OutputTensor& tensor : plan->tensors) {
    EXPECT_TRUE(tensor.transform.IsCopy()) << tensor.name;
  }
  EXPECT_FALSE(Warns(*plan, "converted"));
}

TEST(MakePlan, MasterWeightsAreConvertedToTheTrainingRunsTypeAndThatIsSaid) {
  TinyModel m;
  m.dtype = DType::kF32;
  const auto plan = PlanOf(MakeCheckpoint(m));
  for (const OutputTensor& tensor : plan->tensors) {
    EXPECT_EQ(tensor.dtype, DType::kBF16);
    EXPECT_EQ(tensor.transform.from, DType::kF32);
  }
  EXPECT_TRUE(Warns(*plan, "converted from F32 to BF16"));
  EXPECT_EQ(plan->input_bytes, 4 * plan->parameters);
}

TEST(MakePlan, TheChosenTypeWinsOverTheTrainingRuns) {
  const auto plan = PlanOf(MakeCheckpoint({}), test::OptionsWith<&ExportOptions::dtype>(DType::kF32));
  EXPECT_EQ(plan->tensors.front().dtype, DType::kF32);
  EXPECT_NE(plan->texts.front().content.find(R"("torch_dtype": "float32")"), std::string::npos);
}

TEST(MakePlan, TensorsAreInTheOrderOfTheModel) {
  TinyModel m;
  m.layers = 11;
  const auto plan = PlanOf(MakeCheckpoint(m));
  ASSERT_EQ(plan->tensors.size(), 3U + 9U * 11U);
  EXPECT_EQ(plan->tensors.front().name, "model.embed_tokens.weight");
  EXPECT_TRUE(plan->tensors[1].name.starts_with("model.layers.0."));
  EXPECT_TRUE(plan->tensors[10].name.starts_with("model.layers.1."));
  EXPECT_TRUE(plan->tensors[99].name.starts_with("model.layers.10."));
  EXPECT_EQ(plan->tensors[100].name, "model.norm.weight");
  EXPECT_EQ(plan->tensors[101].name, "lm_head.weight");
}

// Processor time, so that a busy machine does not fail it. A step that takes quadratic time would need minutes.
TEST(MakePlan, TensOfThousandsOfTensorsArePlannedInSeconds) {
  TinyModel m;
  m.layers = 5000;  // nine outputs each
  m.stacked = false;
  const auto checkpoint = MakeCheckpoint(m);
  const std::clock_t begin = std::clock();
  const auto plan = PlanOf(checkpoint);
  const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  EXPECT_EQ(plan->tensors.size(), 3U + 9U * 5000U);
  EXPECT_LT(seconds, 30.0);
}

TEST(MakePlan, ThePlanAsJsonHasEveryTensorWithItsSources) {
  const auto plan = PlanOf(MakeCheckpoint({}));
  const auto json = nlohmann::json::parse(PlanToJson(*plan));
  EXPECT_EQ(json["hash"], plan->hash);
  EXPECT_EQ(json["architecture"], "LlamaForCausalLM");
  ASSERT_EQ(json["files"].size(), 1U);
  const auto& tensors = json["files"][0]["tensors"];
  ASSERT_EQ(tensors.size(), plan->tensors.size());
  EXPECT_EQ(tensors[0]["name"], "model.embed_tokens.weight");
  EXPECT_EQ(tensors[0]["shape"], nlohmann::json::array({13, 12}));
  EXPECT_EQ(tensors[0]["transform"], "copy");
  EXPECT_EQ(tensors[0]["sources"][0]["tensor"], "embedding.word_embeddings.weight");
  EXPECT_EQ(json["ignored"].size(), 2U);  // padding of embedding and head
}

TEST(MakePlan, ThePlanAsJsonCountsTensorsWhereItLeavesThemOut) {
  const auto plan = PlanOf(MakeCheckpoint({}));
  const auto json = nlohmann::json::parse(PlanToJson(*plan, /*with_tensors=*/false));
  EXPECT_EQ(json["files"][0]["tensor_count"], plan->tensors.size());
  EXPECT_FALSE(json["files"][0].contains("tensors"));
}

}  // namespace
}  // namespace slipway::engine
