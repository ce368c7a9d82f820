// Plans with quantized weights: what their hash, their description and their last check know of them.
#include "worker/engine/plan/quantize_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "common/error.h"
#include "tests/worker/engine/plan/model_checkpoint.h"
#include "worker/engine/plan/make_plan.h"
#include "worker/engine/plan/plan_checker.h"
#include "worker/engine/plan/plan_hash.h"

namespace slipway::engine {
namespace {

using test::MakeCheckpoint;

const test::TinyModel kModel{.hidden = 64, .ffn = 96, .dimension = 16};

absl::StatusOr<std::shared_ptr<const ExportPlan>> TryPlan(ExportOptions options) {
  options.checkpoint = "checkpoint";
  return MakePlanOf(MakeCheckpoint(kModel), options);
}

std::shared_ptr<const ExportPlan> PlanOf(const ExportOptions& options) {
  auto plan = TryPlan(options);
  EXPECT_TRUE(plan.ok()) << Describe(plan.status());
  return *plan;
}

ExportOptions Nvfp4() {
  ExportOptions options;
  options.quantization = "nvfp4";
  options.config_form = "modelopt";
  return options;
}

ExportOptions WithRecipe(const std::string& text) { return test::OptionsWith<&ExportOptions::recipe>(text); }

OutputTensor& Find(ExportPlan& plan, std::string_view name) {
  const auto found = std::ranges::find(plan.tensors, name, &OutputTensor::name);
  EXPECT_NE(found, plan.tensors.end()) << name;
  return *found;
}

constexpr std::string_view kCodes = "model.layers.1.mlp.down_proj.weight";

TEST(QuantizePlan, WhatChangesBytesAloneChangesTheHashAlone) {
  const auto plan = PlanOf(Nvfp4());
  ExportOptions searched = Nvfp4();
  searched.scale_search = "mse";
  EXPECT_EQ(plan->output_hash, PlanOf(searched)->output_hash);
  EXPECT_NE(plan->hash, PlanOf(searched)->hash);
  EXPECT_EQ(plan->hash, PlanOf(Nvfp4())->hash);
  const std::vector<std::function<void(ExportPlan&)>> mutations = {
      [](ExportPlan& p) { p.quantized[0].input_amax = 3; },
      [](ExportPlan& p) { p.quantized[0].pre_quant_scale = std::make_shared<std::vector<float>>(64, 2.0F); },
      [](ExportPlan& p) { p.quantized[0].values.column_factors = std::make_shared<std::vector<float>>(64, 2.0F); },
      [](ExportPlan& p) { p.tensors[0].column_factors = std::make_shared<std::vector<float>>(64, 2.0F); },
      [](ExportPlan& p) { p.quantized[0].coding.bound = 7; },
      [](ExportPlan& p) { p.quantized[0].coding.packing = Packing::kBytes; },
      [](ExportPlan& p) { p.quantized[0].values.transform.from = DType::kF32; },
      [](ExportPlan& p) { p.quantized[0].values.regions[0].offsets.back() += 1; },
      [](ExportPlan& p) { p.quantized[0].scale_group = p.quantized.back().scale_group; },
      [](ExportPlan& p) { p.scale_groups[0].amax = 1; },
      [](ExportPlan& p) { Find(p, kCodes).quantized->word = 1; },
      [](ExportPlan& p) { Find(p, kCodes).quantized->constant = 1; },
      [](ExportPlan& p) { Find(p, kCodes).quantized->role = StoredRole::kScales; },
      [](ExportPlan& p) { Find(p, kCodes).quantized->weight = 0; },
  };
  std::set<std::string> hashes = {plan->hash};
  for (std::size_t i = 0; i < mutations.size(); ++i) {
    ExportPlan changed = *plan;
    mutations[i](changed);
    HashPlan(changed);
    EXPECT_TRUE(hashes.insert(changed.hash).second) << "mutation " << i;
    EXPECT_EQ(changed.output_hash, plan->output_hash) << "mutation " << i;
  }
}

TEST(QuantizePlan, TheDescriptionSaysWhatStandsForWhichWeight) {
  const auto json = nlohmann::json::parse(PlanToJson(*PlanOf(Nvfp4())));
  std::set<std::string> found;
  for (const auto& tensor : json["files"][0]["tensors"]) {
    const std::string name = tensor["name"];
    if (name.starts_with("model.layers.1.mlp.down_proj.")) {
      EXPECT_EQ(tensor["quantization"]["format"], "nvfp4");
      EXPECT_EQ(tensor["quantization"]["of"], kCodes);
      EXPECT_EQ(tensor["sources"].size(), 1U);
      found.insert(tensor["quantization"]["holds"]);
    }
    EXPECT_EQ(tensor.contains("quantization"), name.find("_proj.") != std::string::npos) << name;
  }
  EXPECT_THAT(found, testing::ElementsAre("codes", "scale of the tensor", "scales"));
}

TEST(QuantizePlan, TheLastCheckFindsWhatIsMissingTwiceOrOfAnotherSize) {
  const auto good = PlanOf(Nvfp4());
  ASSERT_TRUE(CheckFiles(*good).ok());
  struct Mutation {
    const char* what;
    std::function<void(ExportPlan&)> apply;
    Reason reason;
  };
  const std::vector<Mutation> mutations = {
      {"codes that are scales", [](ExportPlan& p) { Find(p, kCodes).quantized->role = StoredRole::kTensorScale; },
       Reason::kTensorMissing},
      {"codes of another weight",
       [](ExportPlan& p) {
         Find(p, "model.layers.1.mlp.up_proj.weight").quantized->weight =
             Find(p, "model.layers.1.mlp.gate_proj.weight").quantized->weight;
       },
       Reason::kTensorDuplicated},
      {"a name twice", [](ExportPlan& p) { Find(p, kCodes).name = p.tensors[0].name; }, Reason::kTensorDuplicated},
      {"other bytes", [](ExportPlan& p) { Find(p, kCodes).bytes += 1; }, Reason::kInternal},
      {"a shape that its header does not have",
       [](ExportPlan& p) {
         Find(p, kCodes).shape = {48, 64};
       },
       Reason::kInternal},
      {"a coding that its columns cannot take",
       [](ExportPlan& p) { p.quantized[static_cast<std::size_t>(Find(p, kCodes).quantized->weight)].coding.group = 7; },
       Reason::kInternal},
      {"other rows", [](ExportPlan& p) { p.quantized.back().rows -= 1; }, Reason::kInternal},
      {"a place of another's", [](ExportPlan& p) { Find(p, kCodes).file_offset += 4; }, Reason::kInternal},
  };
  for (const Mutation& mutation : mutations) {
    ExportPlan plan = *good;
    mutation.apply(plan);
    EXPECT_EQ(ReasonOf(CheckFiles(plan)), mutation.reason) << mutation.what;
  }
}

TEST(QuantizePlan, TensorsOfAllSizesOfElementsBeginAtMultiplesOfThem) {
  for (const char* recipe : {"rules: [{modules: ['*mlp*'], format: nvfp4}, {modules: ['*self_attn*'], format: int8}]",
                             "rules: [{modules: ['*'], format: int4, group: 32}]\nconfig_form: compressed-tensors",
                             "rules: [{modules: ['*'], format: int8}]\nconfig_form: compressed-tensors"}) {
    ExportOptions options = WithRecipe(recipe);
    options.maximum_shard_bytes = 9000;
    const auto plan = PlanOf(options);
    std::set<std::int64_t> sizes;
    for (const OutputTensor& tensor : plan->tensors) {
      sizes.insert(InfoOf(tensor.dtype).bytes);
      EXPECT_EQ(tensor.file_offset % InfoOf(tensor.dtype).bytes, 0) << tensor.name;
    }
    EXPECT_GT(sizes.size(), 1U);
    EXPECT_GT(plan->shards.size(), 2U);
  }
}

TEST(QuantizePlan, ARuleThatMatchesNothingIsRefusedOrSaid) {
  const absl::Status refused =
      TryPlan(WithRecipe("rules: [{modules: ['*'], format: nvfp4}, {modules: ['*mpl*'], format: fp8}]")).status();
  EXPECT_EQ(ReasonOf(refused), Reason::kOptionUnsupported) << Describe(refused);
  EXPECT_THAT(std::string(refused.message()),
              testing::AllOf(testing::HasSubstr("rule 2"), testing::HasSubstr("*mpl*")));
  const absl::Status layer =
      TryPlan(WithRecipe("rules: [{modules: ['*'], format: nvfp4}, {layers: [7], format: fp8}]")).status();
  EXPECT_THAT(std::string(layer.message()), testing::HasSubstr("layers 7"));
  const auto said = PlanOf(WithRecipe("rules: [{modules: ['*'], format: nvfp4}, {modules: ['*mpl*'], format: none}]"));
  EXPECT_THAT(said->warnings, testing::Contains(testing::HasSubstr("*mpl*")));
}

TEST(QuantizePlan, FusedSiblingsOfOtherGroupsAreRefusedByName) {
  const absl::Status refused =
      TryPlan(WithRecipe("rules: [{modules: ['*'], format: int4, group: 32}, {modules: ['*k_proj'], format: int4, "
                         "group: 64}]\nconfig_form: modelopt"))
          .status();
  EXPECT_EQ(ReasonOf(refused), Reason::kOptionUnsupported);
  EXPECT_THAT(WhereOf(refused).tensor, testing::HasSubstr("self_attn"));
}

TEST(QuantizePlan, SiblingsWithAndWithoutZeroPointsAreRefusedByName) {
  const absl::Status refused =
      TryPlan(WithRecipe("rules: [{modules: ['*'], format: int4, group: 32}, {modules: ['*k_proj'], format: int4, "
                         "group: 32, symmetric: false}]\nconfig_form: compressed-tensors"))
          .status();
  EXPECT_EQ(ReasonOf(refused), Reason::kOptionUnsupported);
  EXPECT_THAT(WhereOf(refused).tensor, testing::HasSubstr("self_attn"));
}

// Its config.json has one size of groups and one kind of zero points for all.
TEST(QuantizePlan, WhatANativeFormCannotDescribeIsRefusedByName) {
  for (const char* other : {"group: 64", "group: 32, symmetric: true"}) {
    const absl::Status refused =
        TryPlan(WithRecipe(std::string("rules: [{modules: ['*'], format: int4, group: 32}, {modules: ['*self_attn*'], "
                                       "format: int4, ") +
                           other + "}]\nconfig_form: native"))
            .status();
    EXPECT_EQ(ReasonOf(refused), Reason::kOptionUnsupported);
    EXPECT_THAT(WhereOf(refused).tensor, testing::HasSubstr("model.layers."));
    EXPECT_THAT(std::string(refused.message()), testing::HasSubstr("config form native"));
  }
}

TEST(QuantizePlan, WhereNothingIsQuantizedTheRecipeIsRefused) {
  const absl::Status refused =
      TryPlan(WithRecipe("rules: [{modules: ['*'], format: nvfp4}, {modules: ['model.*'], format: none}]")).status();
  EXPECT_EQ(ReasonOf(refused), Reason::kOptionUnsupported);
  EXPECT_THAT(std::string(refused.message()), testing::HasSubstr("quantizes nothing"));
}

}  // namespace
}  // namespace slipway::engine
