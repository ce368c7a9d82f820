// Plans of one checkpoint for several targets. The targets' names are all that is taken of them here: what their
// directories hold are exports of the same checkpoint that differ in quantization and in the size of their shards.
#include "worker/engine/plan/join_plans.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/worker/engine/plan/model_checkpoint.h"
#include "worker/engine/plan/make_plan.h"
#include "worker/engine/plan/plan_checker.h"
#include "worker/engine/plan/plan_hash.h"

namespace slipway::engine {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

ExportPlan PlanOf(const std::shared_ptr<const Checkpoint>& checkpoint, const std::string& target,
                  const std::string& quantization, std::int64_t maximum_shard_bytes) {
  ExportOptions options;
  options.checkpoint = "checkpoint";
  options.quantization = quantization;
  options.config_form = quantization == "nvfp4" ? "modelopt" : "";
  options.maximum_shard_bytes = maximum_shard_bytes;
  const auto made = MakePlanOf(checkpoint, options);
  EXPECT_TRUE(made.ok()) << Describe(made.status());
  ExportPlan plan = **made;
  plan.options.targets = {target};
  return plan;
}

// An unquantized export, one under two scales, and one under scales of fused weights.
std::vector<ExportPlan> ThreePlans() {
  const auto checkpoint = test::MakeCheckpoint({.hidden = 64, .ffn = 96, .dimension = 16});
  return {PlanOf(checkpoint, "huggingface", "none", 40'000), PlanOf(checkpoint, "vllm-sharded", "nvfp4", 20'000),
          PlanOf(checkpoint, "sglang-sharded", "fp8", 100'000)};
}

ExportPlan Joined(std::vector<ExportPlan> plans) {
  auto joined = JoinPlans(std::move(plans));
  EXPECT_TRUE(joined.ok()) << Describe(joined.status());
  return *std::move(joined);
}

// A shard of one tensor, which reads this layer of a stack of layers, or none.
struct ShardOf {
  std::int64_t bytes = 0;
  std::optional<std::int64_t> layer = std::nullopt;
};

// A plan of which only the sizes of its shards count, and what they read.
ExportPlan WithShards(const std::string& target, const std::vector<ShardOf>& shards) {
  static const auto checkpoint = [] {
    auto made = std::make_shared<Checkpoint>();
    made->tensors = {test::Stored("embedding.word_embeddings.weight", DType::kU8, {1}),
                     test::Stored("decoder.layers.mlp.linear_fc1.weight", DType::kU8, {4, 1})};
    return made;
  }();
  ExportPlan plan;
  plan.options.targets = {target};
  plan.checkpoint = checkpoint;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string size = std::to_string(shards[i].bytes);
    const std::string name = "t" + std::to_string(i);
    std::string json = fmt::format(R"({{"{}":{{"dtype":"U8","shape":[{}],"data_offsets":[0,{}]}}}})", name, size, size);
    json.resize(88, ' ');
    OutputTensor& tensor = plan.tensors.emplace_back();
    tensor.name = name;
    tensor.dtype = DType::kU8;
    tensor.shape = {shards[i].bytes};
    tensor.regions = {
        {.tensor = shards[i].layer ? 1 : 0, .offsets = {shards[i].layer.value_or(0), 0}, .sizes = {1, 1}}};
    tensor.shard = static_cast<std::int32_t>(i);
    tensor.file_offset = 96;
    tensor.bytes = shards[i].bytes;
    plan.shards.push_back({.file = std::string(1, static_cast<char>('a' + i)),
                           .header = std::string("\x58\0\0\0\0\0\0\0", 8) + json,
                           .bytes = 96 + shards[i].bytes,
                           .first_tensor = static_cast<std::int32_t>(i),
                           .tensor_count = 1});
    plan.output_bytes += plan.shards.back().bytes;
  }
  return plan;
}

std::vector<std::string> FilesOf(const ExportPlan& plan) {
  std::vector<std::string> files;
  for (const Shard& shard : plan.shards) {
    files.push_back(shard.file);
  }
  return files;
}

TEST(JoinPlans, TakenApartEachPlanIsWhatItWas) {
  const std::vector<ExportPlan> plans = ThreePlans();
  const ExportPlan joined = Joined(plans);
  for (std::size_t i = 0; i < plans.size(); ++i) {
    ExportPlan own = PlanOfDirectory(joined, i);
    EXPECT_EQ(PlanToJson(own), PlanToJson(plans[i]));
    // Made again, from regions, codes, scale groups and texts as they are now.
    HashPlan(own);
    EXPECT_EQ(own.output_hash, plans[i].output_hash);
    EXPECT_EQ(own.hash, plans[i].hash);
    EXPECT_EQ(own.options.targets, plans[i].options.targets);
    ASSERT_EQ(own.scale_groups.size(), plans[i].scale_groups.size());
    for (std::size_t group = 0; group < own.scale_groups.size(); ++group) {
      EXPECT_EQ(own.scale_groups[group].weights, plans[i].scale_groups[group].weights);
    }
  }
}

TEST(JoinPlans, EverythingLiesBelowItsTarget) {
  const std::vector<ExportPlan> plans = ThreePlans();
  const ExportPlan joined = Joined(plans);
  std::size_t texts = 0;
  std::size_t shards = 0;
  for (const ExportPlan& plan : plans) {
    for (const TextFile& text : plan.texts) {
      const auto found = std::ranges::find(joined.texts, plan.options.targets[0] + "/" + text.path, &TextFile::path);
      ASSERT_NE(found, joined.texts.end()) << text.path;
      EXPECT_EQ(found->content, text.content);
      ++texts;
    }
    for (const Shard& shard : plan.shards) {
      const auto found = std::ranges::find(joined.shards, plan.options.targets[0] + "/" + shard.file, &Shard::file);
      ASSERT_NE(found, joined.shards.end()) << shard.file;
      EXPECT_EQ(found->header, shard.header);
      ++shards;
    }
  }
  EXPECT_EQ(joined.texts.size(), texts);
  EXPECT_EQ(joined.shards.size(), shards);
  EXPECT_THAT(joined.options.targets, ElementsAre("huggingface", "vllm-sharded", "sglang-sharded"));
}

TEST(JoinPlans, QuantizedOutputsAndScaleGroupsKeepTheirWeights) {
  const std::vector<ExportPlan> plans = ThreePlans();
  const ExportPlan joined = Joined(plans);
  EXPECT_EQ(joined.quantized.size(), plans[1].quantized.size() + plans[2].quantized.size());
  for (const OutputTensor& tensor : joined.tensors) {
    if (tensor.quantized && tensor.quantized->weight >= 0) {
      const QuantizedWeight& weight = joined.quantized[static_cast<std::size_t>(tensor.quantized->weight)];
      EXPECT_THAT(tensor.name, testing::StartsWith(weight.module));
      const bool fp8 = joined.shards[static_cast<std::size_t>(tensor.shard)].file.starts_with("sglang-sharded/");
      EXPECT_EQ(weight.format->name, fp8 ? "fp8" : "nvfp4");
    }
  }
  for (std::size_t group = 0; group < joined.scale_groups.size(); ++group) {
    for (const std::int32_t weight : joined.scale_groups[group].weights) {
      EXPECT_EQ(joined.quantized[static_cast<std::size_t>(weight)].scale_group, static_cast<std::int32_t>(group));
    }
  }
}

TEST(JoinPlans, ShardsThatBeginAtTheSameShareOfTheirOutputsAreNeighbours) {
  const ExportPlan joined =
      Joined({WithShards("huggingface", {{904}, {904}, {904}, {904}}), WithShards("vllm-sharded", {{1904}, {1904}}),
              WithShards("tensorrt-llm", {{404}, {2904}, {604}})});
  // Begin at 0, 1/4, 1/2, 3/4; at 0, 1/2; at 0, 500/4200, 3500/4200.
  EXPECT_THAT(FilesOf(joined),
              ElementsAre("huggingface/a", "vllm-sharded/a", "tensorrt-llm/a", "tensorrt-llm/b", "huggingface/b",
                          "huggingface/c", "vllm-sharded/b", "huggingface/d", "tensorrt-llm/c"));
}

// Two ranks in two parts each: the second rank's first part reads what the first's does.
TEST(JoinPlans, ShardsThatReadTheSameLayersAreNeighboursAndFindTheirOrderAgain) {
  const std::vector<ExportPlan> plans = {WithShards("huggingface", {{100}, {900, 0}, {900, 2}, {100}}),
                                         WithShards("vllm-sharded", {{500, 0}, {500, 2}, {500, 0}, {500, 2}})};
  const ExportPlan joined = Joined(plans);
  EXPECT_THAT(FilesOf(joined), ElementsAre("huggingface/a", "vllm-sharded/a", "huggingface/b", "vllm-sharded/c",
                                           "vllm-sharded/b", "huggingface/c", "vllm-sharded/d", "huggingface/d"));
  EXPECT_THAT(FilesOf(PlanOfDirectory(joined, 0)), ElementsAre("a", "b", "c", "d"));
  EXPECT_EQ(PlanToJson(PlanOfDirectory(joined, 1)), PlanToJson(plans[1]));
}

TEST(JoinPlans, SumsAreOfAllAndWhatIsReadIsReadOnce) {
  std::vector<ExportPlan> plans = ThreePlans();
  const ExportPlan joined = Joined(plans);
  EXPECT_EQ(joined.output_bytes, plans[0].output_bytes + plans[1].output_bytes + plans[2].output_bytes);
  EXPECT_EQ(joined.input_bytes, std::max({plans[0].input_bytes, plans[1].input_bytes, plans[2].input_bytes}));
  EXPECT_EQ(joined.parameters, plans[0].parameters);
  EXPECT_EQ(joined.peak_memory_bytes,
            std::max({plans[0].peak_memory_bytes, plans[1].peak_memory_bytes, plans[2].peak_memory_bytes}));
  ASSERT_FALSE(plans[0].unused.empty());  // the vocabulary's padding
  EXPECT_EQ(joined.unused.size(), plans[0].unused.size());
}

TEST(JoinPlans, WarningsSayWhichTargetTheyAreOfUnlessTheyAreOfAll) {
  std::vector<ExportPlan> plans = ThreePlans();
  plans[0].warnings = {"of all", "of two"};
  plans[1].warnings = {"of one", "of all", "of all"};
  plans[2].warnings = {"of two", "of all"};
  const auto target = [&plans](std::size_t i) { return plans[i].options.targets.front(); };
  const std::vector<std::string> expected = {"of all", target(0) + ": of two", target(1) + ": of one",
                                             target(2) + ": of two"};
  EXPECT_EQ(Joined(plans).warnings, expected);
}

TEST(JoinPlans, TheHashIsOfWhatIsWrittenAndWhere) {
  EXPECT_EQ(Joined(ThreePlans()).hash, Joined(ThreePlans()).hash);
  std::vector<ExportPlan> renamed = ThreePlans();
  renamed[1].options.targets = {"tensorrt-llm"};
  EXPECT_NE(Joined(renamed).hash, Joined(ThreePlans()).hash);
  EXPECT_NE(Joined(renamed).output_hash, Joined(ThreePlans()).output_hash);
}

// What is asked for of ranks reaches the targets that have such, and no other.
TEST(JoinPlans, PlanningForSeveralTargetsJoinsThePlansOfEachAlone) {
  const auto checkpoint =
      test::MakeCheckpoint({.hidden = 64, .ffn = 96, .dimension = 16, .vocabulary = 100, .padded_vocabulary = 128});
  const auto plan_for = [&](const std::vector<std::string>& targets, std::int64_t tensor_parallel) {
    ExportOptions options = test::OptionsWith<&ExportOptions::targets>(targets);
    options.tensor_parallel = tensor_parallel;
    const auto made = MakePlanOf(checkpoint, options);
    EXPECT_TRUE(made.ok()) << Describe(made.status());
    return **made;
  };
  const ExportPlan joined = plan_for({"huggingface", "vllm-sharded"}, 2);
  const std::vector<ExportPlan> alone = {plan_for({"huggingface"}, 1), plan_for({"vllm-sharded"}, 2)};
  EXPECT_EQ(joined.hash, Joined(alone).hash);
  EXPECT_EQ(joined.options.tensor_parallel, 2);
  for (std::size_t i = 0; i < alone.size(); ++i) {
    EXPECT_EQ(joined.directories[i].alone->hash, alone[i].hash);
    EXPECT_EQ(joined.directories[i].alone->options.tensor_parallel, alone[i].options.tensor_parallel);
    EXPECT_EQ(PlanToJson(PlanOfDirectory(joined, i)), PlanToJson(alone[i]));
  }
}

TEST(JoinPlans, OneStaysAsItIs) {
  const ExportPlan plan = ThreePlans()[1];
  const ExportPlan joined = Joined({plan});
  EXPECT_EQ(PlanToJson(joined), PlanToJson(plan));
  EXPECT_TRUE(joined.directories.empty());
  EXPECT_THAT(PlanToJson(joined), testing::Not(HasSubstr("directories")));
}

TEST(JoinPlans, PlansThatDoNotBelongTogetherAreRefused) {
  const auto join = [](const std::function<void(std::vector<ExportPlan>&)>& change) {
    std::vector<ExportPlan> plans = ThreePlans();
    change(plans);
    return ReasonOf(JoinPlans(std::move(plans)).status());
  };
  EXPECT_EQ(join([](auto& plans) { plans[1].options.targets = {"huggingface"}; }), Reason::kInternal);
  EXPECT_EQ(join([](auto& plans) { plans[1].options.targets = {"a", "b"}; }), Reason::kInternal);
  EXPECT_EQ(join([](auto& plans) { plans[1].options.targets = {"../a"}; }), Reason::kInternal);
  EXPECT_EQ(join([](auto& plans) { plans[1].checkpoint = test::MakeCheckpoint({}); }), Reason::kInternal);
  EXPECT_EQ(join([](auto& plans) { plans[1] = Joined(ThreePlans()); }), Reason::kInternal);
  EXPECT_EQ(join([](auto& plans) { plans.clear(); }), Reason::kInternal);
  EXPECT_EQ(join([](auto& plans) { plans[1].output_bytes = std::numeric_limits<std::int64_t>::max(); }),
            Reason::kLimitExceeded);
}

// What the last check of a joined plan believes of directories: nothing.
TEST(JoinPlans, TheLastCheckFindsWhatIsInNoDirectoryOrInAnothers) {
  const ExportPlan good = Joined(ThreePlans());
  ASSERT_TRUE(CheckFiles(good).ok());
  const auto shard_of = [](ExportPlan& plan, const std::string& target) -> Shard& {
    return *std::ranges::find_if(plan.shards, [&](const Shard& shard) { return shard.file.starts_with(target + "/"); });
  };
  const auto codes_of = [&](ExportPlan& plan, const std::string& target) -> OutputTensor& {
    return *std::ranges::find_if(plan.tensors, [&](const OutputTensor& tensor) {
      return plan.shards[static_cast<std::size_t>(tensor.shard)].file.starts_with(target + "/") && tensor.quantized &&
             tensor.quantized->role == StoredRole::kCodes;
    });
  };
  struct Mutation {
    const char* what;
    std::function<void(ExportPlan&)> apply;
    Reason reason;
  };
  const std::vector<Mutation> mutations = {
      {"a shard of another directory", [&](ExportPlan& p) { shard_of(p, "huggingface").directory = 1; },
       Reason::kInternal},
      {"a shard of no directory", [&](ExportPlan& p) { shard_of(p, "huggingface").directory = 3; }, Reason::kInternal},
      {"a shard at the top", [&](ExportPlan& p) { shard_of(p, "huggingface").file = "model.safetensors"; },
       Reason::kInternal},
      {"a shard that its directory does not list", [](ExportPlan& p) { p.directories[0].shards.pop_back(); },
       Reason::kInternal},
      {"a shard that its directory lists twice",
       [](ExportPlan& p) { p.directories[0].shards.push_back(p.directories[0].shards[0]); }, Reason::kInternal},
      {"a shard that another directory lists",
       [](ExportPlan& p) { p.directories[0].shards[0] = p.directories[1].shards[0]; }, Reason::kInternal},
      {"a text of another directory", [](ExportPlan& p) { p.texts[0].directory = 2; }, Reason::kInternal},
      {"a text twice", [](ExportPlan& p) { p.texts.push_back(p.texts[0]); }, Reason::kInternal},
      {"a sidecar of another directory",
       [](ExportPlan& p) {
         p.sidecars.push_back({.path = "huggingface/tokenizer.json", .source = "/t", .identity = {}, .directory = 1});
       },
       Reason::kInternal},
      {"codes of another directory's weight",
       [&](ExportPlan& p) {
         codes_of(p, "sglang-sharded").quantized->weight = codes_of(p, "vllm-sharded").quantized->weight;
       },
       Reason::kInternal},
      {"weights in two directories", [](ExportPlan& p) { --p.directories[2].first_weight; }, Reason::kInternal},
      {"a weight in no directory", [](ExportPlan& p) { --p.directories[2].weight_count; }, Reason::kInternal},
      {"a name twice in one directory",
       [](ExportPlan& p) {
         const Shard& first = p.shards[0];
         p.tensors[static_cast<std::size_t>(first.first_tensor)].name =
             p.tensors[static_cast<std::size_t>(first.first_tensor) + 1].name;
       },
       Reason::kTensorDuplicated},
  };
  for (const Mutation& mutation : mutations) {
    ExportPlan plan = good;
    mutation.apply(plan);
    EXPECT_EQ(ReasonOf(CheckFiles(plan)), mutation.reason) << mutation.what;
  }
}

}  // namespace
}  // namespace slipway::engine
