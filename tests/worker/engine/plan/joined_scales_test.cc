// Where a rank's matrix joins modules, or stacks experts, a scale of a whole matrix is there once for each of them, as
// vLLM keeps it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <tuple>
#include <utility>

#include <nlohmann/json.hpp>

#include "common/error.h"
#include "tests/worker/engine/plan/model_checkpoint.h"
#include "worker/engine/plan/make_plan.h"

namespace slipway::engine {
namespace {

using testing::Contains;
using testing::Key;
using testing::Not;

const test::TinyModel kModel{.hidden = 64, .ffn = 96, .dimension = 16};
constexpr const char* kLayer = "model.layers.0.";

std::shared_ptr<const ExportPlan> PlanOf(const std::string& recipe, std::int64_t ranks = 2) {
  ExportOptions options;
  options.checkpoint = "checkpoint";
  options.targets = {"vllm-sharded"};
  options.recipe = recipe;
  options.tensor_parallel = ranks;
  auto plan = MakePlanOf(test::MakeCheckpoint(kModel), options);
  EXPECT_TRUE(plan.ok()) << Describe(plan.status());
  return plan.ok() ? *plan : std::make_shared<const ExportPlan>();
}

std::string RecipeOf(const std::string& format) { return "rules:\n  - modules: [\"*\"]\n    format: " + format + "\n"; }
std::string WithRanges(const std::string& format) { return "default_input_amax: 448\n" + RecipeOf(format); }

// Of layer 0 on the last rank, by name.
std::map<std::string, const OutputTensor*> TensorsOf(const ExportPlan& plan) {
  std::map<std::string, const OutputTensor*> tensors;
  const Shard& shard = plan.shards.back();
  for (std::int32_t i = shard.first_tensor; i < shard.first_tensor + shard.tensor_count; ++i) {
    const OutputTensor& tensor = plan.tensors.at(static_cast<std::size_t>(i));
    if (tensor.name.starts_with(kLayer)) {
      tensors[tensor.name.substr(std::string(kLayer).size())] = &tensor;
    }
  }
  return tensors;
}

nlohmann::json InputsOf(const ExportPlan& plan) {
  for (const TextFile& text : plan.texts) {
    if (text.path == "config.json") {
      return nlohmann::json::parse(
          text.content)["quantization_config"]["config_groups"]["group_0"]["input_activations"];
    }
  }
  return {};
}

TEST(JoinedScales, EachModuleThatIsJoinedHasOne) {
  for (const auto& [format, weight, input, dtype] :
       {std::tuple("fp8", "weight_scale", "input_scale", DType::kBF16),
        {"nvfp4", "weight_global_scale", "input_global_scale", DType::kF32}}) {
    const auto plan = PlanOf(WithRanges(format));
    const auto tensors = TensorsOf(*plan);
    for (const auto& [module, count] : {std::pair("self_attn.qkv_proj.", 3),
                                        {"mlp.gate_up_proj.", 2},
                                        {"self_attn.o_proj.", 1},
                                        {"mlp.down_proj.", 1}}) {
      for (const char* const scale : {weight, input}) {
        const OutputTensor& tensor = *tensors.at(std::string(module) + scale);
        EXPECT_EQ(tensor.shape, Shape{count}) << format << " " << tensor.name;
        EXPECT_EQ(tensor.dtype, dtype) << format << " " << tensor.name;
      }
    }
  }
}

TEST(JoinedScales, InputsHaveOnlyWhereRangesAreKnown) {
  const auto dynamic = PlanOf(RecipeOf("fp8"));
  EXPECT_THAT(TensorsOf(*dynamic), Not(Contains(Key("mlp.down_proj.input_scale"))));
  EXPECT_EQ(InputsOf(*dynamic)["dynamic"], true);
  EXPECT_EQ(InputsOf(*PlanOf(WithRanges("fp8")))["dynamic"], false);
  const auto weights = PlanOf(RecipeOf("nvfp4"));
  EXPECT_THAT(TensorsOf(*weights), Contains(Key("mlp.down_proj.weight_global_scale")));
  EXPECT_THAT(TensorsOf(*weights), Not(Contains(Key("mlp.down_proj.input_global_scale"))));
  EXPECT_TRUE(InputsOf(*weights).is_null());
}

TEST(JoinedScales, TheyAreThoseOfWholeModulesOnAllRanks) {
  const auto plan = PlanOf(RecipeOf("fp8"), 4);
  for (const QuantizedWeight& weight : plan->quantized) {
    ASSERT_GE(weight.scale_group, 0) << weight.module;
    const std::size_t matrices = weight.module.ends_with("qkv_proj")       ? 3
                                 : weight.module.ends_with("gate_up_proj") ? 2
                                                                           : 0;
    EXPECT_EQ(weight.scale_rows.size(), matrices) << weight.module;
    EXPECT_EQ(std::accumulate(weight.scale_rows.begin(), weight.scale_rows.end(), std::int64_t{0}),
              matrices > 0 ? weight.rows : 0);
    for (std::size_t matrix = 0; matrix < std::max<std::size_t>(matrices, 1); ++matrix) {
      const ScaleGroup& group = plan->scale_groups.at(static_cast<std::size_t>(weight.scale_group) + matrix);
      EXPECT_EQ(group.weights.size(), 4) << weight.module;  // one a rank
      EXPECT_EQ(group.measured.size(), 1) << weight.module;
    }
  }
  const auto shared = PlanOf(RecipeOf("nvfp4"), 2);
  for (const QuantizedWeight& weight : shared->quantized) {
    EXPECT_TRUE(weight.scale_rows.empty()) << weight.module;  // that of fused siblings is one
  }
}

}  // namespace
}  // namespace slipway::engine
