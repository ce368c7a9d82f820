// The checker believes nothing: every way in which a finished plan could be wrong is shown to it.
#include "worker/engine/plan/plan_checker.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "common/error.h"
#include "tests/worker/engine/plan/model_checkpoint.h"
#include "worker/engine/plan/make_plan.h"

namespace slipway::engine {
namespace {

// Both passes over a plan without quantization.
absl::Status CheckAll(const ExportPlan& plan, const Model& model) {
  const absl::Status tensors = CheckTensors(plan, model);
  return tensors.ok() ? CheckFiles(plan) : tensors;
}

using test::MakeCheckpoint;
using test::TinyModel;

struct Planned {
  ExportPlan plan;
  Model model;
};

Planned GoodPlan() {
  const auto checkpoint = MakeCheckpoint(TinyModel{});
  const auto tensors = Canonicalize(*checkpoint);
  EXPECT_TRUE(tensors.ok());
  auto model = LearnModel(*checkpoint, *tensors, {.architecture = {}, .hf_config = {}});
  EXPECT_TRUE(model.ok()) << Describe(model.status());
  const auto plan =
      MakePlanOf(checkpoint, *tensors, *model, test::OptionsWith<&ExportOptions::maximum_shard_bytes>(3000));
  EXPECT_TRUE(plan.ok()) << Describe(plan.status());
  EXPECT_GT((*plan)->shards.size(), 1U);
  return {**plan, *std::move(model)};
}

OutputTensor& Find(ExportPlan& plan, std::string_view name) {
  const auto found = std::ranges::find(plan.tensors, name, &OutputTensor::name);
  EXPECT_NE(found, plan.tensors.end());
  return *found;
}

struct Mutation {
  const char* what;
  std::function<void(ExportPlan&)> apply;
  Reason reason;
  std::string tensor;  // that the error names
};

std::vector<Mutation> Mutations() {
  const std::string kNorm = "model.layers.1.input_layernorm.weight";
  const std::string kQuery = "model.layers.0.self_attn.q_proj.weight";
  const std::string kKey = "model.layers.0.self_attn.k_proj.weight";
  const std::string kStoredQkv = "decoder.layers.self_attention.linear_qkv.weight";
  return {
      {"an output renamed", [=](ExportPlan& p) { Find(p, kNorm).name = "model.layers.1.input_norm.weight"; },
       Reason::kTensorMissing, kNorm},
      {"an output named like another", [=](ExportPlan& p) { Find(p, kKey).name = kQuery; }, Reason::kTensorDuplicated,
       kQuery},
      {"an output dropped", [=](ExportPlan& p) { p.tensors.pop_back(); }, Reason::kTensorMissing, "lm_head.weight"},
      {"an output added",
       [=](ExportPlan& p) {
         p.tensors.push_back(p.tensors.back());
         p.tensors.back().name = "extra.weight";
       },
       Reason::kTensorUnknown, "extra.weight"},
      {"another shape of the same size",
       [=](ExportPlan& p) {
         Find(p, kQuery).shape = {6, 24};
       },
       Reason::kTensorShapeMismatch, kQuery},
      {"another size", [=](ExportPlan& p) { Find(p, kQuery).bytes += 2; }, Reason::kTensorShapeMismatch, kQuery},
      {"a region dropped", [=](ExportPlan& p) { Find(p, kQuery).regions.pop_back(); }, Reason::kTensorShapeMismatch,
       kQuery},
      {"a region of another group", [=](ExportPlan& p) { Find(p, kQuery).regions[1] = Find(p, kQuery).regions[0]; },
       Reason::kTensorDuplicated, kStoredQkv},
      {"a region moved by a row", [=](ExportPlan& p) { Find(p, kQuery).regions[0].offsets[1] += 1; },
       Reason::kTensorMissing, kStoredQkv},
      {"the key of another layer",
       [=](ExportPlan& p) { Find(p, kKey).regions = Find(p, "model.layers.1.self_attn.k_proj.weight").regions; },
       Reason::kTensorMissing, kStoredQkv},
      {"a region beyond the tensor", [=](ExportPlan& p) { Find(p, kQuery).regions[0].offsets[1] = 23; },
       Reason::kTensorShapeMismatch, kStoredQkv},
      {"a region at a negative offset", [=](ExportPlan& p) { Find(p, kQuery).regions[0].offsets[1] = -1; },
       Reason::kTensorShapeMismatch, kStoredQkv},
      {"a region of a tensor that is not there", [=](ExportPlan& p) { Find(p, kQuery).regions[0].tensor = 1000; },
       Reason::kInternal, kQuery},
      {"another source dtype", [=](ExportPlan& p) { Find(p, kQuery).transform.from = DType::kF16; },
       Reason::kTensorShapeMismatch, kQuery},
      {"a view of too few elements",
       [=](ExportPlan& p) {
         Find(p, kQuery).permutation = {.view = {11, 12}, .order = {1, 0}};
       },
       Reason::kTensorShapeMismatch, kQuery},
      {"a view with a negative extent",
       [=](ExportPlan& p) {
         Find(p, kQuery).permutation = {.view = {-12, -12}, .order = {1, 0}};
       },
       Reason::kTensorShapeMismatch, kQuery},
      {"an axis of the view taken twice",
       [=](ExportPlan& p) {
         Find(p, kQuery).permutation = {.view = {12, 12}, .order = {1, 1}};
       },
       Reason::kTensorShapeMismatch, kQuery},
      {"an axis that the view does not have",
       [=](ExportPlan& p) {
         Find(p, kQuery).permutation = {.view = {12, 12}, .order = {0, 2}};
       },
       Reason::kTensorShapeMismatch, kQuery},
      {"an axis of the view not taken",
       [=](ExportPlan& p) {
         Find(p, kQuery).permutation = {.view = {12, 12, 1}, .order = {1, 0}};
       },
       Reason::kTensorShapeMismatch, kQuery},
      {"a view without an order",
       [=](ExportPlan& p) {
         Find(p, kQuery).permutation.view = {12, 12};
       },
       Reason::kTensorShapeMismatch, kQuery},
      {"padding not stated", [=](ExportPlan& p) { p.unused.pop_back(); }, Reason::kTensorMissing,
       "output_layer.weight"},
      {"used rows stated as padding", [=](ExportPlan& p) { p.unused.push_back(p.unused.back()); },
       Reason::kTensorDuplicated, "output_layer.weight"},
      {"a hole between tensors", [=](ExportPlan& p) { p.tensors[1].file_offset += 64; }, Reason::kInternal,
       "model.layers.0.input_layernorm.weight"},
      {"a tensor in another shard", [=](ExportPlan& p) { p.tensors[1].shard += 1; }, Reason::kInternal,
       "model.layers.0.input_layernorm.weight"},
      {"a shard too long", [=](ExportPlan& p) { p.shards[0].bytes += 1; }, Reason::kInternal, ""},
      {"a header of another shard", [=](ExportPlan& p) { p.shards[0].header = p.shards[1].header; }, Reason::kInternal,
       ""},
      {"a shard dropped", [=](ExportPlan& p) { p.shards.pop_back(); }, Reason::kInternal, ""},
  };
}

TEST(PlanChecker, AGoodPlanPasses) {
  const Planned planned = GoodPlan();
  EXPECT_EQ(CheckAll(planned.plan, planned.model), absl::OkStatus());
}

TEST(PlanChecker, APermutationOfAllAxesOfAViewOfAllElementsPasses) {
  Planned planned = GoodPlan();
  Find(planned.plan, "model.layers.0.self_attn.q_proj.weight").permutation = {.view = {4, 3, 12}, .order = {2, 0, 1}};
  EXPECT_EQ(CheckAll(planned.plan, planned.model), absl::OkStatus());
}

TEST(PlanChecker, EveryMutationIsFoundAndNamed) {
  const Planned good = GoodPlan();
  for (const Mutation& mutation : Mutations()) {
    ExportPlan plan = good.plan;
    mutation.apply(plan);
    const absl::Status status = CheckAll(plan, good.model);
    EXPECT_EQ(ReasonOf(status), mutation.reason) << mutation.what << ": " << Describe(status);
    EXPECT_EQ(WhereOf(status).tensor, mutation.tensor) << mutation.what << ": " << Describe(status);
  }
}

TEST(PlanChecker, AStoredTensorThatNothingUsesIsNamed) {
  Planned planned = GoodPlan();
  auto checkpoint = std::make_shared<Checkpoint>(*planned.plan.checkpoint);
  checkpoint->tensors.push_back(test::Stored("forgotten", DType::kBF16, {3}));
  planned.plan.checkpoint = checkpoint;
  const absl::Status status = CheckAll(planned.plan, planned.model);
  EXPECT_EQ(ReasonOf(status), Reason::kTensorUnknown) << Describe(status);
  EXPECT_EQ(WhereOf(status).tensor, "forgotten");
}

}  // namespace
}  // namespace slipway::engine
