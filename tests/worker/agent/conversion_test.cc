#include "worker/conversion.h"

#include <functional>
#include <string>

#include <gtest/gtest.h>

#include "common/error.h"

namespace slipway::worker {
namespace {

v1::ExportSpec Spec() {
  v1::ExportSpec spec;
  spec.set_checkpoint("/checkpoint");
  return spec;
}

TEST(ToExportOptions, WhatIsNotSaidGetsTheContractsDefaults) {
  const engine::ExportOptions options = ToExportOptions(Spec()).value();
  EXPECT_EQ(options.checkpoint, "/checkpoint");
  EXPECT_EQ(options.targets, std::vector<std::string>{"huggingface"});
  EXPECT_EQ(options.quantization, "");
  EXPECT_EQ(options.digest, DigestAlgorithm::kSha256);
  EXPECT_EQ(options.maximum_shard_bytes, 0);
  EXPECT_FALSE(options.iteration);
  EXPECT_FALSE(options.dtype);
  EXPECT_FALSE(options.allow_custom_code);
  EXPECT_EQ(options.tensor_parallel, 1);
  EXPECT_EQ(options.pipeline_parallel, 1);
  EXPECT_EQ(options.expert_parallel, 1);
}

TEST(ToExportOptions, EveryFieldReachesTheEngine) {
  v1::ExportSpec spec = Spec();
  spec.add_targets("huggingface");
  spec.set_quantization("none");
  spec.set_hf_config("/hf");
  spec.set_architecture("MistralForCausalLM");
  spec.set_iteration(0);
  spec.set_dtype("fp16");
  spec.set_digest("xxh3");
  spec.set_max_shard_bytes(1000);
  spec.set_allow_custom_code(true);
  spec.set_adapter("/adapter");
  spec.set_adapter_only(true);
  spec.set_recipe("rules: []");
  spec.set_kv_cache("fp8");
  spec.set_config_form("modelopt");
  spec.set_scale_search("mse");
  spec.set_ranges("/ranges.safetensors");
  spec.set_tensor_parallel(4);
  spec.set_pipeline_parallel(3);
  spec.set_expert_parallel(2);
  spec.set_tensorrt_llm_version("1.0");
  const engine::ExportOptions options = ToExportOptions(spec).value();
  EXPECT_EQ(options.hf_config, "/hf");
  EXPECT_EQ(options.architecture, "MistralForCausalLM");
  EXPECT_EQ(options.iteration, 0);
  EXPECT_EQ(options.dtype, engine::DType::kF16);
  EXPECT_EQ(options.digest, DigestAlgorithm::kXxh3);
  EXPECT_EQ(options.maximum_shard_bytes, 1000);
  EXPECT_TRUE(options.allow_custom_code);
  EXPECT_EQ(options.adapter, "/adapter");
  EXPECT_TRUE(options.adapter_only);
  EXPECT_EQ(options.recipe, "rules: []");
  EXPECT_EQ(options.kv_cache, "fp8");
  EXPECT_EQ(options.config_form, "modelopt");
  EXPECT_EQ(options.scale_search, "mse");
  EXPECT_EQ(options.ranges, "/ranges.safetensors");
  EXPECT_EQ(options.tensor_parallel, 4);
  EXPECT_EQ(options.pipeline_parallel, 3);
  EXPECT_EQ(options.expert_parallel, 2);
  EXPECT_EQ(options.tensorrt_llm_version, "1.0");
}

TEST(ToExportOptions, WhatCannotBeDoneIsRefusedByTheNameOfItsField) {
  struct Case {
    Reason reason;
    std::string field;
    std::function<void(v1::ExportSpec&)> change;
  };
  const Case cases[] = {
      {Reason::kInvalidArgument, "checkpoint", [](v1::ExportSpec& spec) { spec.clear_checkpoint(); }},
      {Reason::kInvalidArgument, "dtype", [](v1::ExportSpec& spec) { spec.set_dtype("bfloat16"); }},
      {Reason::kInvalidArgument, "digest", [](v1::ExportSpec& spec) { spec.set_digest("md5"); }},
      {Reason::kInvalidArgument, "iteration", [](v1::ExportSpec& spec) { spec.set_iteration(-1); }},
      {Reason::kInvalidArgument, "max_shard_bytes", [](v1::ExportSpec& spec) { spec.set_max_shard_bytes(-1); }},
  };
  for (const Case& refused : cases) {
    v1::ExportSpec spec = Spec();
    refused.change(spec);
    const auto options = ToExportOptions(spec);
    EXPECT_EQ(ReasonOf(options.status()), refused.reason) << refused.field;
    EXPECT_EQ(std::string(options.status().message()).find(refused.field + ":"), 0U) << options.status();
  }
}

TEST(ToPlanSummary, SaysWhatThePlanHolds) {
  engine::ExportPlan plan;
  plan.hash = "abc";
  plan.architecture = "LlamaForCausalLM";
  plan.tensors.resize(3);
  plan.shards.resize(2);
  plan.shards[0].bytes = 10;
  plan.shards[1].bytes = 20;
  plan.output_bytes = 30;
  plan.input_bytes = 40;
  plan.peak_memory_bytes = 50;
  plan.parameters = 60;
  const v1::PlanSummary summary = ToPlanSummary(plan);
  EXPECT_EQ(summary.plan_hash(), "abc");
  EXPECT_EQ(summary.architecture(), "LlamaForCausalLM");
  EXPECT_EQ(summary.tensors(), 3);
  ASSERT_EQ(summary.shard_bytes_size(), 2);
  EXPECT_EQ(summary.shard_bytes(1), 20);
  EXPECT_EQ(summary.output_bytes(), 30);
  EXPECT_EQ(summary.input_bytes(), 40);
  EXPECT_EQ(summary.peak_memory_bytes(), 50);
  EXPECT_EQ(summary.parameters(), 60);
  EXPECT_TRUE(summary.plan_json().empty());
}

TEST(ToPlanSummary, AWarningWithBytesThatAreNotUtf8CanStillTravel) {
  engine::ExportPlan plan;
  plan.warnings = {"tensor \xff\xfe is odd"};
  v1::PlanSummary arrived;
  ASSERT_TRUE(arrived.ParseFromString(ToPlanSummary(plan).SerializeAsString()));
  EXPECT_EQ(arrived.warnings(0), "tensor \xEF\xBF\xBD\xEF\xBF\xBD is odd");
}

TEST(Sendable, WhatNoMessageHoldsIsRefusedByName) {
  EXPECT_EQ(*Sendable("{}", "the plan"), "{}");
  const absl::Status status = Sendable(std::string(std::size_t{64} << 20, ' '), "the plan").status();
  EXPECT_EQ(ReasonOf(status), Reason::kLimitExceeded);
}

}  // namespace
}  // namespace slipway::worker
