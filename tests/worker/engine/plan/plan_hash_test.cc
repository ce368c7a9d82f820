#include "worker/engine/plan/plan_hash.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "common/error.h"
#include "tests/worker/engine/plan/model_checkpoint.h"
#include "worker/engine/plan/make_plan.h"

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

TEST(PlanHash, TheSameModelInAnotherLayoutHasTheSameOutputHashAndAnotherHash) {
  TinyModel m;
  const auto stacked = PlanOf(MakeCheckpoint(m));
  m.stacked = false;
  const auto per_layer = PlanOf(MakeCheckpoint(m));
  m.split_gate = true;
  m.fused_norms = false;
  const auto split = PlanOf(MakeCheckpoint(m));
  EXPECT_EQ(stacked->output_hash, per_layer->output_hash);
  EXPECT_EQ(stacked->output_hash, split->output_hash);
  EXPECT_NE(stacked->hash, per_layer->hash);
  EXPECT_NE(per_layer->hash, split->hash);
}

TEST(PlanHash, PlanningTwiceGivesTheSameHash) {
  EXPECT_EQ(PlanOf(MakeCheckpoint({}))->hash, PlanOf(MakeCheckpoint({}))->hash);
  EXPECT_EQ(PlanOf(MakeCheckpoint({}))->hash.size(), 64U);
}

TEST(PlanHash, WhereTheCheckpointLiesIsNotInIt) {
  const auto moved = MakeCheckpoint({});
  moved->path = "elsewhere";
  moved->files[0].identity.device = 7;
  moved->files[0].identity.inode = 8;
  EXPECT_EQ(PlanOf(MakeCheckpoint({}))->hash, PlanOf(moved)->hash);
}

TEST(PlanHash, AFileThatChangedChangesTheHashButNotTheOutputHash) {
  const auto changed = MakeCheckpoint({});
  changed->files[0].identity.modified_ns = 1;
  EXPECT_NE(PlanOf(MakeCheckpoint({}))->hash, PlanOf(changed)->hash);
  EXPECT_EQ(PlanOf(MakeCheckpoint({}))->output_hash, PlanOf(changed)->output_hash);
}

TEST(PlanHash, WhatChangesTheOutputChangesTheOutputHash) {
  const std::string hash = PlanOf(MakeCheckpoint({}))->output_hash;
  EXPECT_NE(hash, PlanOf(MakeCheckpoint({}), test::OptionsWith<&ExportOptions::dtype>(DType::kF16))->output_hash);
  EXPECT_NE(hash,
            PlanOf(MakeCheckpoint({}), test::OptionsWith<&ExportOptions::maximum_shard_bytes>(3000))->output_hash);
  EXPECT_NE(
      hash,
      PlanOf(MakeCheckpoint({}), test::OptionsWith<&ExportOptions::architecture>("MistralForCausalLM"))->output_hash);
  const auto other_base = MakeCheckpoint({});
  test::SetArgument(*other_base, "rotary_base", 10000);
  EXPECT_NE(hash, PlanOf(other_base)->output_hash);
}

TEST(PlanHash, APermutationIsInThePlansHashButNotInItsOutputs) {
  ExportPlan plan = *PlanOf(MakeCheckpoint({}));
  std::set<std::string> hashes = {plan.hash};
  const std::string output_hash = plan.output_hash;
  const std::vector<AxisPermutation> permutations = {{.view = {4, 3, 12}, .order = {0, 1, 2}},
                                                     {.view = {4, 3, 12}, .order = {2, 0, 1}},
                                                     {.view = {12, 12}, .order = {1, 0}}};
  for (const AxisPermutation& permutation : permutations) {
    plan.tensors[0].permutation = permutation;
    HashPlan(plan);
    EXPECT_TRUE(hashes.insert(plan.hash).second);
    EXPECT_EQ(plan.output_hash, output_hash);
  }
  const auto printed = nlohmann::json::parse(PlanToJson(plan))["files"][0]["tensors"];
  EXPECT_EQ(printed[0]["permutation"].dump(), R"({"order":[1,0],"view":[12,12]})");
  EXPECT_EQ(printed[0]["transform"], "permute axes");
  EXPECT_FALSE(printed[1].contains("permutation"));
}

}  // namespace
}  // namespace slipway::engine
