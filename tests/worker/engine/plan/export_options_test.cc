#include "worker/engine/plan/export_options.h"

#include <string>

#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/worker/engine/plan/model_checkpoint.h"

namespace slipway::engine {
namespace {

TEST(ExportOptions, WordsOfHowToQuantizeAreThoseOfTheCommandLine) {
  ExportOptions options = test::OptionsWith<&ExportOptions::recipe>("rules: []");
  for (const char* kv_cache : {"", "none", "fp8", "nvfp4"}) {
    for (const char* form : {"", "auto", "modelopt", "compressed-tensors", "native"}) {
      for (const char* search : {"", "amax", "mse"}) {
        options.kv_cache = kv_cache;
        options.config_form = form;
        options.scale_search = search;
        const absl::Status status = CheckOptions(options);
        EXPECT_TRUE(status.ok()) << Describe(status);
      }
    }
  }
}

TEST(ExportOptions, OtherWordsAreRefusedByTheNameOfTheOption) {
  struct Case {
    std::string option;
    ExportOptions options;
  };
  for (const auto& [option, options] : {
           Case{"--quantization", test::OptionsWith<&ExportOptions::quantization>("fp9")},
           Case{"--kv-cache", test::OptionsWith<&ExportOptions::kv_cache>("int8")},
           Case{"--config-form", test::OptionsWith<&ExportOptions::config_form>("gguf")},
           Case{"--scale-search", test::OptionsWith<&ExportOptions::scale_search>("best")},
           Case{"--recipe", test::OptionsWith<&ExportOptions::recipe>(" ")},
       }) {
    const absl::Status status = CheckOptions(options);
    EXPECT_EQ(ReasonOf(status), Reason::kInvalidArgument) << Describe(status);
    EXPECT_TRUE(std::string(status.message()).starts_with(option + ": ")) << Describe(status);
  }
}

TEST(ExportOptions, ARecipeDoesNotGoWithAFormatThatItWouldOverrule) {
  ExportOptions options = test::OptionsWith<&ExportOptions::recipe>("rules: []");
  for (const char* neutral : {"", "none"}) {
    options.quantization = neutral;
    EXPECT_TRUE(CheckOptions(options).ok()) << neutral;
  }
  options.quantization = "int4";
  EXPECT_EQ(ReasonOf(CheckOptions(options)), Reason::kInvalidArgument);
}

TEST(ExportOptions, SizesThatNoTargetHasRanksForAreRefusedByTheNameOfTheOption) {
  struct Case {
    std::string option;
    ExportOptions options;
  };
  for (const auto& [option, options] : {
           Case{"--tensor-parallel", test::OptionsWith<&ExportOptions::tensor_parallel>(2)},
           Case{"--tensor-parallel", test::OptionsWith<&ExportOptions::tensor_parallel>(0)},
           Case{"--tensor-parallel", test::OptionsWith<&ExportOptions::tensor_parallel>(1025)},
           Case{"--pipeline-parallel", test::OptionsWith<&ExportOptions::pipeline_parallel>(2)},
           Case{"--expert-parallel", test::OptionsWith<&ExportOptions::expert_parallel>(2)},
           Case{"--tensorrt-llm-version", test::OptionsWith<&ExportOptions::tensorrt_llm_version>("1.0")},
       }) {
    const absl::Status status = CheckOptions(options);
    EXPECT_EQ(ReasonOf(status), Reason::kInvalidArgument) << Describe(status);
    EXPECT_TRUE(std::string(status.message()).starts_with(option + ": ")) << Describe(status);
  }
}

TEST(ExportOptions, AnAdapterAloneIsNotQuantizedAndSaysSo) {
  ExportOptions options = test::OptionsWith<&ExportOptions::recipe>("rules: []");
  options.adapter = "adapter";
  EXPECT_TRUE(CheckOptions(options).ok());
  options.adapter_only = true;
  EXPECT_EQ(ReasonOf(CheckOptions(options)), Reason::kOptionUnsupported);
}

}  // namespace
}  // namespace slipway::engine
