#include "client/options.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/application.h"
#include "client/message_json.h"
#include "common/error.h"
#include "tests/support/temporary_directory.h"

namespace slipway {
namespace {

using testing::HasSubstr;

ExportFlags Parse(const std::string& words) {
  ExportFlags flags;
  CLI::App app;
  AddExportOptions(app, flags);
  app.parse(words);
  return flags;
}

class RecipeOption : public testing::Test {
 protected:
  [[nodiscard]] std::string Path() const { return directory_.path() + "/recipe.yaml"; }
  void Write(const std::string& text) const { std::ofstream(Path(), std::ios::binary) << text; }

  // What `slipway plan` says to the recipe and more words.
  [[nodiscard]] std::pair<ExitStatus, std::string> Run(const std::string& path,
                                                       const std::vector<std::string>& more = {}) const {
    std::ostringstream out;
    std::ostringstream err;
    Console console{.out = out, .err = err, .out_terminal = {}, .err_terminal = {}};
    std::vector<std::string> words = {"plan", "/nonexistent", "--recipe", path};
    words.insert(words.end(), more.begin(), more.end());
    const ExitStatus status = RunApplication(words, console);
    return {status, err.str()};
  }

  test::TemporaryDirectory directory_;
};

TEST_F(RecipeOption, TheTextOfTheFileTravelsNotItsName) {
  const std::string text = "rules:\n  - modules: ['*']\n    format: fp8\n";
  Write(text);
  const ExportFlags flags = Parse("/c --recipe " + Path());
  const auto spec = ToExportSpec(flags, /*local=*/true);
  ASSERT_TRUE(spec.ok());
  EXPECT_EQ(spec->recipe(), text);
  EXPECT_EQ(spec->quantization(), "");
  EXPECT_EQ(ToExportOptions(flags)->recipe, text);
  EXPECT_EQ(MessageToJson(*spec)["recipe"], text);
}

TEST_F(RecipeOption, AFileOfAMebibyteIsTaken) {
  Write(std::string(1048576, '#'));
  EXPECT_EQ(Parse("/c --recipe " + Path()).recipe.size(), 1048576U);
}

TEST_F(RecipeOption, AFileThatIsMissingTooLongEmptyOrNotTextIsWrongUsage) {
  const auto [missing, missing_says] = Run(Path());
  EXPECT_EQ(missing, ExitStatus::kUsage);
  EXPECT_THAT(missing_says, HasSubstr("--recipe: cannot read '" + Path() + "'"));
  EXPECT_EQ(Run(directory_.path()).first, ExitStatus::kUsage) << "a directory";
  for (const std::string& text :
       {std::string(1048577, '#'), std::string(), std::string("\n"), std::string("\xFF\xFE"), std::string("a\0b", 3)}) {
    Write(text);
    const auto [status, says] = Run(Path());
    EXPECT_EQ(status, ExitStatus::kUsage) << text.size();
    EXPECT_THAT(says, HasSubstr(Path()));
  }
}

TEST_F(RecipeOption, DoesNotGoWithQuantization) {
  Write("rules: []");
  const auto [status, says] = Run(Path(), {"--quantization", "none"});
  EXPECT_EQ(status, ExitStatus::kUsage);
  EXPECT_THAT(says, testing::AllOf(HasSubstr("--recipe"), HasSubstr("--quantization")));
}

TEST(ExportOptionsOfTheCommandLine, QuantizationReachesTheServiceAndTheEngine) {
  const ExportFlags flags =
      Parse("/c --quantization nvfp4 --kv-cache fp8 --config-form modelopt --scale-search mse --ranges /r.safetensors");
  const auto spec = ToExportSpec(flags, /*local=*/false);
  ASSERT_TRUE(spec.ok());
  EXPECT_EQ(spec->quantization(), "nvfp4");
  EXPECT_EQ(spec->kv_cache(), "fp8");
  EXPECT_EQ(spec->config_form(), "modelopt");
  EXPECT_EQ(spec->scale_search(), "mse");
  EXPECT_EQ(spec->ranges(), "/r.safetensors");
  const auto options = ToExportOptions(flags);
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->quantization, "nvfp4");
  EXPECT_EQ(options->kv_cache, "fp8");
  EXPECT_EQ(options->config_form, "modelopt");
  EXPECT_EQ(options->scale_search, "mse");
  EXPECT_EQ(options->ranges, "/r.safetensors");
}

TEST(ExportOptionsOfTheCommandLine, TargetsAndTheirRanksReachTheServiceAndTheEngine) {
  const ExportFlags flags = Parse(
      "/c --target tensorrt-llm --target vllm-sharded --tensor-parallel 4 --pipeline-parallel 2 "
      "--expert-parallel 1024 --tensorrt-llm-version 1.0");
  const auto spec = ToExportSpec(flags, /*local=*/false);
  ASSERT_TRUE(spec.ok());
  EXPECT_THAT(spec->targets(), testing::ElementsAre("tensorrt-llm", "vllm-sharded"));
  EXPECT_EQ(spec->tensor_parallel(), 4);
  EXPECT_EQ(spec->pipeline_parallel(), 2);
  EXPECT_EQ(spec->expert_parallel(), 1024);
  EXPECT_EQ(spec->tensorrt_llm_version(), "1.0");
  const auto options = ToExportOptions(flags);
  ASSERT_TRUE(options.ok());
  EXPECT_THAT(options->targets, testing::ElementsAre("tensorrt-llm", "vllm-sharded"));
  EXPECT_EQ(options->tensor_parallel, 4);
  EXPECT_EQ(options->pipeline_parallel, 2);
  EXPECT_EQ(options->expert_parallel, 1024);
  EXPECT_EQ(options->tensorrt_llm_version, "1.0");
  EXPECT_EQ(MessageToJson(*spec)["tensor_parallel"], 4);
}

TEST(ExportOptionsOfTheCommandLine, WhatIsNotGivenIsLeftToTheRecipe) {
  const auto spec = ToExportSpec(Parse("/c"), /*local=*/false);
  ASSERT_TRUE(spec.ok());
  for (const std::string& text :
       {spec->recipe(), spec->kv_cache(), spec->config_form(), spec->scale_search(), spec->ranges()}) {
    EXPECT_EQ(text, "");
  }
}

TEST(ExportOptionsOfTheCommandLine, RangesAreFoundFromWhereTheCommandRunsInLocalModeOnly) {
  const ExportFlags flags = Parse("/c --ranges sub/../r.safetensors");
  const std::string here = (std::filesystem::current_path() / "r.safetensors").string();
  EXPECT_EQ(ToExportSpec(flags, /*local=*/true)->ranges(), here);
  EXPECT_EQ(ToExportSpec(flags, /*local=*/false)->ranges(), "sub/../r.safetensors");
  EXPECT_EQ(ToExportOptions(flags)->ranges, here);
}

}  // namespace
}  // namespace slipway
