#include "common/recipe_text.h"

#include <string>

#include <gtest/gtest.h>

#include "common/error.h"

namespace slipway {
namespace {

TEST(RecipeText, TextOfUpToAMebibyteCanBeARecipe) {
  EXPECT_TRUE(CheckRecipeText("--recipe", "rules: []  # \xC3\xBC").ok());
  EXPECT_TRUE(CheckRecipeText("--recipe", std::string(1048576, '#')).ok());
}

TEST(RecipeText, WhatNoRecipeCanBeIsRefusedByTheNameOfTheOption) {
  for (const std::string& text : {std::string(), std::string(" \r\n\t"), std::string(1048577, '#'),
                                  std::string("a\0b", 3), std::string("rules: \xFF")}) {
    const absl::Status status = CheckRecipeText("spec.recipe", text);
    EXPECT_EQ(ReasonOf(status), Reason::kInvalidArgument);
    EXPECT_TRUE(std::string(status.message()).starts_with("spec.recipe: ")) << status;
  }
}

}  // namespace
}  // namespace slipway
