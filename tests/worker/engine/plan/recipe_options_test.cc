// What options say beside a recipe.
#include <string>

#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/worker/engine/plan/model_checkpoint.h"
#include "worker/engine/plan/export_recipe.h"

namespace slipway::engine {
namespace {

constexpr const char* kRecipe =
    "config_form: compressed-tensors\n"
    "kv_cache: fp8\n"
    "scale_search: mse\n"
    "rules:\n"
    "  - modules: ['*']\n"
    "    format: nvfp4\n";

TEST(RecipeOptions, WhatIsNotGivenIsAsTheRecipeSays) {
  const auto recipe = RecipeFor(test::OptionsWith<&ExportOptions::recipe>(kRecipe), nullptr);
  ASSERT_TRUE(recipe.ok() && recipe->has_value()) << Describe(recipe.status());
  EXPECT_EQ((*recipe)->form, ConfigForm::kCompressedTensors);
  EXPECT_EQ((*recipe)->kv_cache, KvCache::kFp8);
  EXPECT_EQ((*recipe)->search, ScaleSearch::kSquaredError);
}

TEST(RecipeOptions, WhatIsGivenIsDoneWhateverTheRecipeSays) {
  ExportOptions options = test::OptionsWith<&ExportOptions::recipe>(kRecipe);
  options.config_form = "modelopt";
  options.kv_cache = "nvfp4";
  options.scale_search = "amax";
  const auto others = RecipeFor(options, nullptr);
  ASSERT_TRUE(others.ok() && others->has_value()) << Describe(others.status());
  EXPECT_EQ((*others)->form, ConfigForm::kModelOpt);
  EXPECT_EQ((*others)->kv_cache, KvCache::kNvfp4);
  EXPECT_EQ((*others)->search, ScaleSearch::kAmax);
  options.config_form = "auto";
  options.kv_cache = "none";
  const auto neutral = RecipeFor(options, nullptr);
  ASSERT_TRUE(neutral.ok() && neutral->has_value()) << Describe(neutral.status());
  EXPECT_EQ((*neutral)->form, std::nullopt);
  EXPECT_EQ((*neutral)->kv_cache, KvCache::kNone);
}

TEST(RecipeOptions, WithoutAFormatOrARecipeNothingIsQuantized) {
  for (const char* quantization : {"", "none"}) {
    const auto recipe = RecipeFor(test::OptionsWith<&ExportOptions::quantization>(quantization), nullptr);
    ASSERT_TRUE(recipe.ok()) << Describe(recipe.status());
    EXPECT_FALSE(recipe->has_value());
  }
}

}  // namespace
}  // namespace slipway::engine
