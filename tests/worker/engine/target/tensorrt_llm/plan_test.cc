// The layout as a plan: regions of the checkpoint, whole tensors covered though ranks overlap.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <string>

#include "common/error.h"
#include "tests/worker/engine/plan/model_checkpoint.h"
#include "worker/engine/plan/make_plan.h"

namespace slipway::engine {
namespace {

using test::MakeCheckpoint;
using test::TinyModel;

std::shared_ptr<const ExportPlan> PlanOf(const TinyModel& model, std::int64_t ranks) {
  ExportOptions options;
  options.checkpoint = "checkpoint";
  options.targets = {"tensorrt-llm"};
  options.tensor_parallel = ranks;
  auto plan = MakePlanOf(MakeCheckpoint(model), options);
  EXPECT_TRUE(plan.ok()) << Describe(plan.status());
  return plan.ok() ? *plan : std::make_shared<const ExportPlan>();
}

TEST(TensorRtLlmPlan, TiedEmbeddingsAreReadForBothEndsWithoutTheTrainingsPadding) {
  TinyModel model;
  model.tied = true;
  const auto plan = PlanOf(model, 2);
  ASSERT_EQ(plan->shards.size(), 2);
  EXPECT_EQ(plan->shards[1].file, "rank1.safetensors");
  const auto begin = plan->tensors.begin() + plan->shards[1].first_tensor;
  const auto end = begin + plan->shards[1].tensor_count;
  const auto embedding =
      std::find_if(begin, end, [](const auto& t) { return t.name == "transformer.vocab_embedding.weight"; });
  const auto head = std::find_if(begin, end, [](const auto& t) { return t.name == "lm_head.weight"; });
  ASSERT_NE(embedding, end);
  ASSERT_NE(head, end);
  EXPECT_EQ(embedding->shape, (Shape{13, 12}));
  ASSERT_EQ(embedding->regions.size(), 1);
  EXPECT_EQ(embedding->regions[0].sizes, (Shape{13, 12}));
  EXPECT_EQ(head->shape, (Shape{7, 12}));
  ASSERT_EQ(head->regions.size(), 2);
  EXPECT_EQ(head->regions[0].tensor, embedding->regions[0].tensor);
  EXPECT_EQ(head->regions[0].offsets, (Shape{7, 0}));
  EXPECT_EQ(head->regions[0].sizes, (Shape{6, 12}));
  EXPECT_EQ(head->regions[1].tensor, kZeros);
  EXPECT_EQ(head->regions[1].sizes, (Shape{1, 12}));
}

TEST(TensorRtLlmPlan, WhatIsConvertedIsCountedInTheRanks) {
  TinyModel model;
  model.dtype = DType::kF32;
  const auto plan = PlanOf(model, 2);
  const auto converted = std::ranges::count_if(
      plan->tensors, [](const auto& tensor) { return tensor.transform.from != tensor.transform.to; });
  EXPECT_EQ(converted, std::ssize(plan->tensors));
  EXPECT_THAT(plan->warnings, testing::Contains(std::to_string(converted) +
                                                " tensors are converted from F32 to BF16, counted in every rank"));
}

TEST(TensorRtLlmPlan, QueriesKeysAndValuesComeStraightFromMegatronsGroups) {
  const auto plan = PlanOf({}, 2);
  ASSERT_EQ(plan->shards.size(), 2);
  const auto begin = plan->tensors.begin() + plan->shards[1].first_tensor;
  const auto end = begin + plan->shards[1].tensor_count;
  const auto qkv =
      std::find_if(begin, end, [](const auto& t) { return t.name == "transformer.layers.1.attention.qkv.weight"; });
  ASSERT_NE(qkv, end);
  // Of 2 groups of 2 queries, a key and a value, 3 rows each, the second; in the same order.
  std::int64_t row = 12;
  for (const SourceRegion& region : qkv->regions) {
    EXPECT_EQ(region.offsets, (Shape{1, row, 0}));
    row += region.sizes[1];
  }
  EXPECT_EQ(row, 24);
}

}  // namespace
}  // namespace slipway::engine
