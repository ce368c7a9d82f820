#include "worker/engine/quantize/recipe.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "worker/engine/quantize/module_patterns.h"

namespace slipway::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// The name of the format that a module gets, of 4 layers.
std::string FormatFor(const Recipe& recipe, std::string_view module, std::optional<std::int64_t> layer = std::nullopt) {
  const RecipeRule* rule = RuleFor(recipe, module, layer, 4);
  return rule == nullptr ? "none" : std::string(rule->format->name);
}

Recipe Parsed(std::string_view text) {
  const auto recipe = ParseRecipe(text);
  EXPECT_TRUE(recipe.ok()) << Describe(recipe.status());
  return recipe.ok() ? *recipe : Recipe();
}

std::string Refusal(std::string_view text) {
  const auto recipe = ParseRecipe(text);
  EXPECT_EQ(ReasonOf(recipe.status()), Reason::kInvalidArgument) << text;
  return std::string(recipe.status().message());
}

TEST(Recipe, EveryKeyIsRead) {
  const Recipe recipe = Parsed(R"(
name: mine
config_form: compressed-tensors
kv_cache: fp8
scale_search: mse
activations: dynamic
default_input_amax: 2688
rules:
  - modules: ["*"]
    format: int4
    group: 64
  - modules: ["*self_attn*", "*.mlp.up_pro?"]
    layers: [0, -1]
    format: none
)");
  EXPECT_EQ(recipe.name, "mine");
  EXPECT_EQ(recipe.form, ConfigForm::kCompressedTensors);
  EXPECT_EQ(recipe.kv_cache, KvCache::kFp8);
  EXPECT_EQ(recipe.search, ScaleSearch::kSquaredError);
  EXPECT_EQ(recipe.activations, Activations::kDynamic);
  EXPECT_EQ(recipe.default_input_amax, 2688.F);
  ASSERT_EQ(recipe.rules.size(), 2U);
  EXPECT_EQ(recipe.rules[0].format, FindFormat("int4"));
  EXPECT_EQ(recipe.rules[0].group, 64);
  EXPECT_THAT(recipe.rules[1].modules, ElementsAre("*self_attn*", "*.mlp.up_pro?"));
  EXPECT_THAT(recipe.rules[1].layers, ElementsAre(0, -1));
  EXPECT_EQ(recipe.rules[1].format, nullptr);
}

TEST(Recipe, ARuleSaysWhetherThereAreZeroPoints) {
  const Recipe recipe = Parsed(
      "rules: [{format: int4, symmetric: false}, {format: int4-awq, symmetric: true}, {format: int4}, {format: fp8, "
      "symmetric: true}]\n");
  EXPECT_EQ(recipe.rules[0].choice(), (FormatChoice{FindFormat("int4"), false}));
  EXPECT_EQ(recipe.rules[1].choice(), (FormatChoice{FindFormat("int4-awq"), true}));
  EXPECT_EQ(recipe.rules[2].choice(), (FormatChoice{FindFormat("int4"), std::nullopt}));
  EXPECT_EQ(recipe.rules[3].symmetric, true);
}

TEST(Recipe, WhatIsAbsentIsTheDefault) {
  const Recipe recipe = Parsed("config_form: auto\nrules: [{format: fp8}]\n");
  EXPECT_EQ(recipe.form, std::nullopt);
  EXPECT_EQ(recipe.kv_cache, KvCache::kNone);
  EXPECT_EQ(recipe.search, ScaleSearch::kAmax);
  EXPECT_EQ(recipe.activations, std::nullopt);
  EXPECT_EQ(recipe.default_input_amax, std::nullopt);
  EXPECT_EQ(FormatFor(recipe, "model.layers.1.mlp.up_proj", 1), "fp8");
}

TEST(Recipe, WhatIsWrongIsNamedWithItsLine) {
  EXPECT_EQ(Refusal("rules:\n  - format: fp8\n    modles: ['*']\n"),
            "recipe, line 3: a rule has no key 'modles'; it has modules, layers, format, group, symmetric");
  EXPECT_THAT(Refusal("name: a\nrule: []\n"), StartsWith("recipe, line 2: the recipe has no key 'rule'"));
  EXPECT_THAT(Refusal("rules:\n- modules: ['*']\n  format: fp9\n"),
              StartsWith("recipe, line 3: there is no format 'fp9'; there are none, fp8,"));
  EXPECT_EQ(Refusal("rules:\n- format: fp8\n  format: nvfp4\n"), "recipe, line 3: format twice");
  EXPECT_EQ(Refusal("rules:\n- modules: ['*']\n"), "recipe, line 2: a rule has no format (none is one)");
  EXPECT_EQ(Refusal("rules:\n- {format: fp8}\nkv_cache: fp4\n"),
            "recipe, line 3: kv_cache is 'fp4'; it can be none, fp8, nvfp4");
  EXPECT_THAT(Refusal("config_form: gguf\nrules: [{format: fp8}]\n"), StartsWith("recipe, line 1: config_form is"));
  EXPECT_THAT(Refusal("scale_search: best\n"), StartsWith("recipe, line 1: scale_search is 'best'"));
  EXPECT_THAT(Refusal("activations: some\n"), StartsWith("recipe, line 1: activations is 'some'"));
  EXPECT_EQ(Refusal("rules:\n- format: fp8\n  group: 16\n"), "recipe, line 3: fp8 has no groups");
  EXPECT_EQ(Refusal("rules:\n- group: 32\n  format: nvfp4\n"), "recipe, line 2: nvfp4 has no groups of 32, only of 16");
  EXPECT_EQ(Refusal("rules:\n- format: int4\n  group: 48\n"),
            "recipe, line 3: int4 has no groups of 48, only of 128, 64, 32");
  EXPECT_EQ(Refusal("rules:\n- format: int4\n  group: wide\n"), "recipe, line 3: group is no number: 'wide'");
  EXPECT_EQ(Refusal("rules:\n- format: none\n  group: 16\n"), "recipe, line 3: a group without a format");
  EXPECT_EQ(Refusal("rules:\n- format: fp8\n  symmetric: false\n"), "recipe, line 3: fp8 has no zero points");
  EXPECT_EQ(Refusal("rules:\n- symmetric: false\n  format: int4-gptq\n"),
            "recipe, line 2: int4-gptq has no zero points");
  EXPECT_EQ(Refusal("rules:\n- format: int4\n  symmetric: no\n"),
            "recipe, line 3: symmetric is 'no'; it can be false, true");
  EXPECT_EQ(Refusal("rules:\n- format: none\n  symmetric: true\n"), "recipe, line 3: symmetric without a format");
  EXPECT_EQ(Refusal("rules:\n- format: fp8\n  layers: [one]\n"), "recipe, line 3: a layer is no number: 'one'");
  EXPECT_EQ(Refusal("rules:\n- format: fp8\n  layers: [1000000]\n"), "recipe, line 3: there is no layer 1000000");
  EXPECT_EQ(Refusal("rules:\n- format: fp8\n  modules: []\n"), "recipe, line 3: modules is no list of patterns");
  EXPECT_THAT(Refusal("rules:\n- format: fp8\n  modules: ['a b']\n"),
              StartsWith("recipe, line 3: 'a b' is no pattern of a module's name"));
  EXPECT_EQ(Refusal("default_input_amax: -1\n"), "recipe, line 1: default_input_amax is not above 0");
  EXPECT_EQ(Refusal("default_input_amax: nan\n"), "recipe, line 1: default_input_amax is not above 0");
  EXPECT_EQ(Refusal("default_input_amax: 1e99\n"), "recipe, line 1: default_input_amax is no number: '1e99'");
  EXPECT_EQ(Refusal("rules: fp8\n"), "recipe, line 1: rules is no list");
  EXPECT_EQ(Refusal("- a\n"), "recipe, line 1: the recipe is no mapping");
  EXPECT_EQ(Refusal(""), "recipe, line 1: the recipe is no mapping");
  EXPECT_EQ(Refusal("rules:\n- format: none\n"), "recipe, line 1: it has no rule with a format");
  EXPECT_THAT(Refusal("name: a\nrules: ]\n"), StartsWith("recipe, line 2: no YAML"));
}

TEST(Recipe, HostileTextIsRefusedBeforeItGrows) {
  EXPECT_THAT(Refusal(std::string((1 << 20) + 1, ' ')), HasSubstr("at most 1048576"));
  std::string deep = "rules:\n";
  for (int i = 0; i < 100; ++i) {
    deep += "- ";
  }
  EXPECT_THAT(Refusal(deep + "a\n"), HasSubstr("more than 32 deep"));
  std::string many = "rules:\n";
  for (int i = 0; i < 1001; ++i) {
    many += "- {format: fp8}\n";
  }
  EXPECT_EQ(Refusal(many), "recipe, line 1002: more than 1000 rules");
  // Ten thousand patterns in three hundred lines.
  std::string copies = "rules:\n- format: fp8\n  modules: &m [";
  for (int i = 0; i < 100; ++i) {
    copies += "a, ";
  }
  copies += "a]\n";
  for (int i = 0; i < 300; ++i) {
    copies += "- {format: fp8, modules: *m}\n";
  }
  EXPECT_THAT(Refusal(copies), HasSubstr("more than 10000 patterns"));
}

TEST(Recipe, TheLastRuleThatMatchesWins) {
  const Recipe recipe = Parsed(R"(
rules:
  - {modules: ["*"], format: nvfp4}
  - {modules: ["*self_attn*"], format: fp8}
  - {modules: ["*.o_proj"], format: none}
  - {modules: ["*.layers.2.self_attn.o_proj"], format: int8}
)");
  EXPECT_EQ(FormatFor(recipe, "model.layers.0.mlp.up_proj", 0), "nvfp4");
  EXPECT_EQ(FormatFor(recipe, "model.layers.0.self_attn.q_proj", 0), "fp8");
  EXPECT_EQ(FormatFor(recipe, "model.layers.0.self_attn.o_proj", 0), "none");
  EXPECT_EQ(FormatFor(recipe, "model.layers.2.self_attn.o_proj", 2), "int8");
}

TEST(Recipe, LayersCountFromBothEnds) {
  const Recipe recipe = Parsed("rules:\n- {format: fp8}\n- {layers: [0, -1], format: none}\n");
  for (const auto& [layer, format] :
       {std::pair(0, "none"), std::pair(1, "fp8"), std::pair(2, "fp8"), std::pair(3, "none")}) {
    EXPECT_EQ(FormatFor(recipe, "model.layers." + std::to_string(layer) + ".mlp.up_proj", layer), format) << layer;
  }
  EXPECT_EQ(FormatFor(recipe, "model.connector.linear"), "fp8");  // in no layer
}

TEST(Recipe, WhatEnginesKeepIsKeptUnlessARuleMeansIt) {
  const Recipe all = RecipeOf(*FindFormat("fp8"));
  const Recipe named = Parsed(R"(
rules:
  - {modules: ["lm_head", "*.mlp.gate", "mtp.*"], format: int8}
  - {modules: ["*", "model.layers.*", "*proj", "*.mlp.*"], format: fp8}
)");
  for (const std::string_view module : {"model.layers.0.mlp.gate",
                                        "model.layers.0.block_sparse_moe.gate",
                                        "backbone.layers.1.mixer.gate",
                                        "model.layers.0.mlp.router",
                                        "model.layers.0.feed_forward.router",
                                        "model.layers.0.mlp.shared_expert_gate",
                                        "lm_head",
                                        "embed_out",
                                        "model.embed_tokens",
                                        "model.language_model.embed_tokens",
                                        "backbone.embeddings",
                                        "transformer.word_embeddings",
                                        "transformer.wte",
                                        "transformer.wpe",
                                        "gpt_neox.embed_in",
                                        "model.layers.0.linear_attn.conv1d",
                                        "backbone.layers.0.mixer.conv1d",
                                        "model.layers.0.linear_attn.in_proj_a",
                                        "model.layers.0.linear_attn.in_proj_b",
                                        "model.layers.0.linear_attn.in_proj_ba",
                                        "mtp.fc",
                                        "mtp.layers.0.mlp.up_proj",
                                        "model.layers.61.eh_proj",
                                        "model.visual.blocks.0.attn.qkv",
                                        "visual.patch_embed.proj",
                                        "model.layers.0.self_attn.indexer.weights_proj"}) {
    EXPECT_EQ(FormatFor(all, module, 0), "none") << module;
    EXPECT_TRUE(IsKeptByDefault(module)) << module;
  }
  EXPECT_EQ(FormatFor(named, "lm_head"), "int8");
  EXPECT_EQ(FormatFor(named, "model.layers.0.mlp.gate", 0), "int8");
  EXPECT_EQ(FormatFor(named, "mtp.layers.0.mlp.up_proj", 0), "int8");
  EXPECT_EQ(FormatFor(named, "model.layers.0.block_sparse_moe.gate", 0), "none");
  EXPECT_EQ(FormatFor(named, "model.visual.patch_embed.proj"), "none");
  EXPECT_EQ(FormatFor(named, "model.embed_tokens"), "none");
}

TEST(Recipe, ProjectionsOfEveryFamilyAreQuantizedByDefault) {
  const Recipe recipe = RecipeOf(*FindFormat("fp8"));
  for (const std::string_view module :
       {"model.layers.0.self_attn.q_proj", "model.layers.0.mlp.gate_proj", "model.layers.0.mlp.gate_up_proj",
        "model.layers.0.mlp.experts.7.gate_proj", "model.layers.0.mlp.shared_experts.gate_proj",
        "model.layers.0.mlp.shared_expert.up_proj", "model.layers.0.block_sparse_moe.experts.0.w1",
        "model.layers.0.mlp.experts.gate_up_proj", "model.layers.0.linear_attn.in_proj_qkvz",
        "model.layers.0.linear_attn.in_proj_qkv", "model.layers.0.linear_attn.in_proj_z",
        "model.layers.0.self_attn.kv_a_proj_with_mqa", "backbone.layers.0.mixer.in_proj", "transformer.h.0.attn.c_attn",
        "gpt_neox.layers.0.attention.query_key_value", "transformer.h.0.mlp.dense_h_to_4h",
        "model.layers.0.feed_forward.experts.gate_up_proj"}) {
    EXPECT_EQ(FormatFor(recipe, module, 0), "fp8") << module;
  }
}

// DeepSeek's prediction layers are numbered on from the model's.
TEST(Recipe, LayersBehindTheLastAreKeptUnlessARuleHasTheirNumber) {
  const std::string module = "model.layers.4.mlp.up_proj";
  EXPECT_EQ(FormatFor(RecipeOf(*FindFormat("fp8")), module, 4), "none");
  EXPECT_EQ(FormatFor(Parsed("rules: [{layers: [4], format: fp8}]"), module, 4), "fp8");
}

TEST(ModulePatterns, StarsAndQuestionMarksAreTheOnlySpecialCharacters) {
  EXPECT_TRUE(MatchesPattern("*", ""));
  EXPECT_TRUE(MatchesPattern("a*c", "abbc"));
  EXPECT_TRUE(MatchesPattern("*a*b*", "xxaxbx"));
  EXPECT_TRUE(MatchesPattern("a?c", "a.c"));
  EXPECT_TRUE(MatchesPattern("**", "a"));
  EXPECT_FALSE(MatchesPattern("a?c", "ac"));
  EXPECT_FALSE(MatchesPattern("a.c", "abc"));
  EXPECT_FALSE(MatchesPattern("a", "ab"));
  EXPECT_FALSE(MatchesPattern("*ab", "aba"));
  EXPECT_FALSE(MatchesPattern("", "a"));
  EXPECT_TRUE(MatchesPattern("[a]", "[a]"));
  // Backtracking over all stars at once would not end.
  std::string stars;
  for (int i = 0; i < 120; ++i) {
    stars += "*a";
  }
  EXPECT_FALSE(MatchesPattern(stars + "b", std::string(100'000, 'a')));
}

class ReadyRecipes : public ::testing::TestWithParam<std::string> {
 protected:
  static Recipe Read() {
    std::ifstream file(std::string(SLIPWAY_TEST_DATA) + "/../../deploy/recipes/" + GetParam() + ".yaml");
    std::stringstream text;
    text << file.rdbuf();
    return Parsed(text.str());
  }
};

TEST_P(ReadyRecipes, IsARecipeOfItsName) { EXPECT_EQ(Read().name, GetParam()); }

TEST_P(ReadyRecipes, DoesWhatItsNameSays) {
  const Recipe recipe = Read();
  const std::string name = GetParam();
  const bool layers = name.starts_with("first-and-last");
  const std::string format = name.substr(name.rfind('-') + 1);
  const std::string experts = layers && format == "fp8" ? "fp8" : format;
  const std::string attention = layers ? format : name.starts_with("attention-fp8") ? "fp8" : "none";
  const std::string dense = name.starts_with("experts-only") ? "none" : format;
  EXPECT_EQ(FormatFor(recipe, "model.layers.1.self_attn.q_proj", 1), attention);
  EXPECT_EQ(FormatFor(recipe, "model.layers.1.mlp.up_proj", 1), dense);
  EXPECT_EQ(FormatFor(recipe, "model.layers.1.mlp.shared_experts.up_proj", 1), dense);
  EXPECT_EQ(FormatFor(recipe, "backbone.layers.1.mixer.up_proj", 1), dense);
  EXPECT_EQ(FormatFor(recipe, "model.layers.1.mlp.experts.0.up_proj", 1), experts);
  EXPECT_EQ(FormatFor(recipe, "model.layers.1.block_sparse_moe.experts.0.w1", 1), experts);
  EXPECT_EQ(FormatFor(recipe, "model.layers.1.feed_forward.experts.gate_up_proj", 1), experts);
  EXPECT_EQ(FormatFor(recipe, "backbone.layers.1.mixer.experts.3.down_proj", 1), experts);
  EXPECT_EQ(FormatFor(recipe, "model.layers.1.mlp.gate", 1), "none");
  EXPECT_EQ(FormatFor(recipe, "lm_head"), "none");
  for (const std::int64_t layer : {0, 3}) {
    const std::string module = "model.layers." + std::to_string(layer) + ".mlp.experts.0.up_proj";
    EXPECT_EQ(FormatFor(recipe, module, layer), layers ? "none" : experts) << layer;
  }
}

INSTANTIATE_TEST_SUITE_P(All, ReadyRecipes,
                         ::testing::Values("attention-fp8-mlp-nvfp4", "experts-only-nvfp4", "experts-only-mxfp4",
                                           "first-and-last-layers-kept-fp8", "first-and-last-layers-kept-nvfp4",
                                           "mlp-only-nvfp4"),
                         [](const auto& name) {
                           std::string text = name.param;
                           std::ranges::replace(text, '-', '_');
                           return text;
                         });

TEST(ReadyRecipes, EachFileIsTested) {
  int files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(SLIPWAY_TEST_DATA) + "/../../deploy/recipes")) {
    files += entry.path().extension() == ".yaml" ? 1 : 0;
  }
  EXPECT_EQ(files, 6);
}

}  // namespace
}  // namespace slipway::engine
