// Plans of ranks with quantized weights: what each rank stores, and what ranks have in common.
#include "worker/engine/plan/quantize_ranks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "common/error.h"
#include "tests/worker/engine/plan/model_checkpoint.h"
#include "worker/engine/plan/make_plan.h"
#include "worker/engine/plan/plan_hash.h"

namespace slipway::engine {
namespace {

using test::MakeCheckpoint;
using testing::ElementsAre;
using testing::HasSubstr;

const test::TinyModel kModel{.hidden = 64, .ffn = 96, .dimension = 16};

absl::StatusOr<std::shared_ptr<const ExportPlan>> TryPlan(const std::string& recipe, std::int64_t tensor = 2,
                                                          std::int64_t pipeline = 1,
                                                          const std::string& target = "tensorrt-llm") {
  ExportOptions options;
  options.checkpoint = "checkpoint";
  options.targets = {target};
  options.recipe = recipe;
  options.tensor_parallel = tensor;
  options.pipeline_parallel = pipeline;
  return MakePlanOf(MakeCheckpoint(kModel), options);
}

std::shared_ptr<const ExportPlan> PlanOf(const std::string& recipe, std::int64_t tensor = 2,
                                         std::int64_t pipeline = 1) {
  auto plan = TryPlan(recipe, tensor, pipeline);
  EXPECT_TRUE(plan.ok()) << Describe(plan.status());
  return plan.ok() ? *plan : std::make_shared<const ExportPlan>();
}

std::string RecipeOf(const std::string& format) {
  return "default_input_amax: 448\nrules:\n  - modules: [\"*\"]\n    format: " + format + "\n";
}

// By name, of one rank.
std::map<std::string, const OutputTensor*> TensorsOf(const ExportPlan& plan, std::size_t rank) {
  std::map<std::string, const OutputTensor*> tensors;
  const Shard& shard = plan.shards.at(rank);
  for (std::int32_t i = shard.first_tensor; i < shard.first_tensor + shard.tensor_count; ++i) {
    tensors[plan.tensors.at(static_cast<std::size_t>(i)).name] = &plan.tensors[static_cast<std::size_t>(i)];
  }
  return tensors;
}

const QuantizedWeight& WeightOf(const ExportPlan& plan, std::size_t rank, const std::string& name) {
  return plan.quantized.at(static_cast<std::size_t>(TensorsOf(plan, rank).at(name)->quantized->weight));
}

std::string Says(const std::string& recipe, std::int64_t tensor, std::int64_t pipeline = 1,
                 const std::string& target = "tensorrt-llm") {
  const auto plan = TryPlan(recipe, tensor, pipeline, target);
  EXPECT_EQ(ReasonOf(plan.status()), Reason::kOptionUnsupported) << Describe(plan.status());
  return std::string(plan.status().message());
}

TEST(QuantizeRanks, Float8HasAScaleOfTheWeightAndOfTheInput) {
  const auto plan = PlanOf(RecipeOf("fp8"));
  const auto tensors = TensorsOf(*plan, 1);
  const OutputTensor& codes = *tensors.at("transformer.layers.0.attention.qkv.weight");
  EXPECT_EQ(codes.dtype, DType::kF8E4M3);
  EXPECT_EQ(codes.shape, (Shape{64, 64}));  // 2 heads of queries, 1 of keys, 1 of values, 16 each
  for (const char* const scale : {"weights_scaling_factor", "activation_scaling_factor"}) {
    const OutputTensor& tensor = *tensors.at(std::string("transformer.layers.0.attention.qkv.") + scale);
    EXPECT_EQ(tensor.dtype, DType::kF32);
    EXPECT_EQ(tensor.shape, (Shape{1}));
  }
  EXPECT_EQ(*tensors.at("lm_head.weight")->shape.begin(), 7);
  EXPECT_FALSE(tensors.at("lm_head.weight")->quantized);
}

TEST(QuantizeRanks, Nvfp4HasScalesOfARanksOwnBlocksUnderTheModulesOne) {
  const auto plan = PlanOf(RecipeOf("nvfp4"));
  const auto tensors = TensorsOf(*plan, 0);
  EXPECT_EQ(tensors.at("transformer.layers.1.attention.dense.weight")->shape, (Shape{64, 16}));
  EXPECT_EQ(tensors.at("transformer.layers.1.attention.dense.weights_scaling_factor")->shape, (Shape{64, 2}));
  EXPECT_EQ(tensors.at("transformer.layers.1.attention.dense.weights_scaling_factor_2")->shape, Shape{});
}

TEST(QuantizeRanks, AScaleIsThatOfAllFusedModulesOnAllRanks) {
  const auto plan = PlanOf(RecipeOf("fp8"), 2, 2);
  std::map<std::string, std::int32_t> groups;
  for (std::size_t rank = 0; rank < 4; ++rank) {
    for (const char* const module : {"attention.qkv", "attention.dense", "mlp.fc", "mlp.gate", "mlp.proj"}) {
      const std::string name = std::string("transformer.layers.0.") + module + ".weight";
      const std::string key = std::to_string(rank / 2) + (std::string(module) == "mlp.gate" ? "mlp.fc" : module);
      const std::int32_t group = WeightOf(*plan, rank, name).scale_group;
      EXPECT_EQ(groups.emplace(key, group).first->second, group) << name << " of rank " << rank;
    }
  }
  EXPECT_EQ(plan->scale_groups.size(), 8);  // two layers, one a stage, of four groups
  std::map<std::int32_t, std::string> keys;
  for (const auto& [key, group] : groups) {
    EXPECT_TRUE(keys.emplace(group, key).second) << key << " and " << keys[group];
  }
  const ScaleGroup& qkv = plan->scale_groups.at(static_cast<std::size_t>(groups.at("0attention.qkv")));
  std::vector<std::string> measured;
  for (const OutputTensor& matrix : qkv.measured) {
    measured.push_back(matrix.name);
  }
  EXPECT_THAT(measured, ElementsAre("model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight",
                                    "model.layers.0.self_attn.v_proj.weight"));
}

TEST(QuantizeRanks, HeadsThatSeveralRanksHaveAreMeasuredOnce) {
  const auto plan = PlanOf(RecipeOf("fp8"), 4);
  for (const ScaleGroup& group : plan->scale_groups) {
    std::int64_t elements = 0;
    for (const OutputTensor& matrix : group.measured) {
      elements += matrix.shape.at(0) * matrix.shape.at(1);
    }
    EXPECT_LE(elements, 2 * 96 * 64);
    EXPECT_EQ(group.weights.size() % 4, 0);
  }
}

TEST(QuantizeRanks, ScalesOfRowsAreThoseOfWholeRowsWhereRanksShareColumns) {
  const auto plan = PlanOf(RecipeOf("fp8-per-channel"));
  for (std::size_t rank = 0; rank < 2; ++rank) {
    const auto tensors = TensorsOf(*plan, rank);
    EXPECT_EQ(tensors.at("transformer.layers.0.mlp.proj.weight")->shape, (Shape{64, 48}));
    EXPECT_EQ(tensors.at("transformer.layers.0.mlp.proj.per_channel_scale")->shape, (Shape{64}));
    const QuantizedWeight& weight = WeightOf(*plan, rank, "transformer.layers.0.mlp.proj.weight");
    EXPECT_EQ(weight.columns, 96);
    EXPECT_EQ(weight.first_kept_column, rank == 0 ? 0 : 48);
    EXPECT_EQ(weight.kept_columns, 48);
    const QuantizedWeight& by_rows = WeightOf(*plan, rank, "transformer.layers.0.mlp.fc.weight");
    EXPECT_EQ(by_rows.rows, 48);
    EXPECT_EQ(by_rows.kept_columns, 0);
  }
}

TEST(QuantizeRanks, FactorsOfInputsAreOnesWhereNothingGivesThem) {
  const auto plan = PlanOf(
      "rules:\n  - modules: [\"*\"]\n    format: int4-awq\n    group: 64\n"
      "  - modules: [\"*down_proj\"]\n    format: none\n",
      1);
  const OutputTensor& factors = *TensorsOf(*plan, 0).at("transformer.layers.0.attention.qkv.prequant_scaling_factor");
  EXPECT_EQ(factors.dtype, DType::kBF16);
  EXPECT_EQ(factors.shape, (Shape{64}));
  EXPECT_EQ(*WeightOf(*plan, 0, "transformer.layers.0.attention.qkv.weight").pre_quant_scale,
            std::vector<float>(64, 1.0F));
  EXPECT_THAT(plan->warnings, testing::Contains(HasSubstr("ones are stored")));
}

TEST(QuantizeRanks, WeightOnlyFormatsStoreValues) {
  const auto plan = PlanOf(RecipeOf("int8"));
  EXPECT_TRUE(plan->quantized.empty());
  EXPECT_EQ(TensorsOf(*plan, 0).at("transformer.layers.0.mlp.fc.weight")->dtype, DType::kBF16);
  const auto config = std::ranges::find(plan->texts, "config.json", &TextFile::path);
  ASSERT_NE(config, plan->texts.end());
  EXPECT_EQ(nlohmann::json::parse(config->content)["quantization"]["quant_algo"], "W8A16");
}

TEST(QuantizeRanks, WhatDecidesBytesIsInTheHash) {
  const auto plan = PlanOf(RecipeOf("fp8-per-channel"));
  const auto float8 = PlanOf(RecipeOf("fp8"));
  const auto changed = [](const ExportPlan& from, auto&& change) {
    ExportPlan other = from;
    change(other);
    HashPlan(other);
    return other.hash != from.hash;
  };
  EXPECT_TRUE(changed(*plan, [](ExportPlan& p) { p.quantized[0].first_kept_column += 1; }));
  EXPECT_TRUE(changed(*plan, [](ExportPlan& p) { p.quantized[0].kept_columns += 1; }));
  EXPECT_TRUE(changed(*plan, [](ExportPlan& p) { p.quantized[0].stack += 1; }));
  EXPECT_TRUE(changed(*plan, [](ExportPlan& p) { p.quantized[0].scale_rows.push_back(1); }));
  EXPECT_TRUE(changed(*float8, [](ExportPlan& p) { p.scale_groups[0].measured.pop_back(); }));
}

TEST(QuantizeRanks, ModulesThatRanksJoinAreQuantizedAlike) {
  EXPECT_THAT(Says(RecipeOf("fp8") + "  - modules: [\"*k_proj\"]\n    format: none\n", 2), HasSubstr("alike"));
  // Layer 1 is layer 0 of the second stage.
  const std::string of_one_layer = RecipeOf("fp8") + "  - layers: [1]\n    format: none\n";
  EXPECT_THAT(Says(of_one_layer, 1, 2), HasSubstr("--pipeline-parallel"));
  EXPECT_TRUE(TryPlan(of_one_layer, 2, 1).ok());
}

TEST(QuantizeRanks, WhatARankCannotHoldIsRefusedByName) {
  EXPECT_THAT(Says(RecipeOf("int4-awq"), 2), HasSubstr("groups of 128"));
  EXPECT_THAT(Says(RecipeOf("nvfp4"), 4), HasSubstr("24 columns"));  // of 96, shared by four ranks
  EXPECT_THAT(Says(RecipeOf("mxfp8"), 2), HasSubstr("--target huggingface takes mxfp8"));
  EXPECT_THAT(Says("activations: dynamic\n" + RecipeOf("fp8"), 2), HasSubstr("activations static"));
  EXPECT_THAT(Says(RecipeOf("w4a8-awq"), 2, 1, "vllm-sharded"), HasSubstr("--target huggingface"));
  EXPECT_THAT(Says("activations: none\n" + RecipeOf("fp8"), 2, 1, "vllm-sharded"),
              HasSubstr("activations static or dynamic, not none"));
  EXPECT_THAT(Says(RecipeOf("fp8-block"), 2, 1, "vllm-sharded"), HasSubstr("no whole blocks of 128 x 128"));
  EXPECT_THAT(Says(RecipeOf("fp8"), 2, 1, "sglang-sharded"), HasSubstr("--target huggingface"));
}

}  // namespace
}  // namespace slipway::engine
