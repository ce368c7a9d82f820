#include "worker/engine/plan/options_json.h"

#include <gtest/gtest.h>

namespace slipway::engine {
namespace {

TEST(OptionsJson, RanksAndTargetsOfAManifestAreThoseOfTheExport) {
  ExportOptions options;
  options.targets = {"tensorrt-llm", "vllm-sharded"};
  options.tensor_parallel = 4;
  options.pipeline_parallel = 3;
  options.expert_parallel = 2;
  options.tensorrt_llm_version = "1.0";
  const ExportOptions read = OptionsFromJson(OptionsToJson(options));
  EXPECT_EQ(read.targets, options.targets);
  EXPECT_EQ(read.tensor_parallel, 4);
  EXPECT_EQ(read.pipeline_parallel, 3);
  EXPECT_EQ(read.expert_parallel, 2);
  EXPECT_EQ(read.tensorrt_llm_version, "1.0");
}

TEST(OptionsJson, AManifestFromBeforeThereWereRanksIsRead) {
  nlohmann::json json = OptionsToJson(ExportOptions());
  for (const char* field : {"tensor_parallel", "pipeline_parallel", "expert_parallel", "tensorrt_llm_version"}) {
    json.erase(field);
  }
  const ExportOptions read = OptionsFromJson(json);
  EXPECT_EQ(read.tensor_parallel, 1);
  EXPECT_EQ(read.expert_parallel, 1);
  EXPECT_EQ(read.tensorrt_llm_version, "");
}

}  // namespace
}  // namespace slipway::engine
