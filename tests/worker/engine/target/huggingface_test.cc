#include "worker/engine/target/huggingface.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "tests/support/temporary_directory.h"
#include "tests/worker/engine/plan/model_checkpoint.h"

namespace slipway::engine {
namespace {

using nlohmann::json;
using slipway::test::TemporaryDirectory;

Model AModel() {
  Model model;
  model.architecture = FindArchitecture("LlamaForCausalLM");
  model.configuration.layers = 1;
  return model;
}

// A checkpoint whose iteration directory is `path`, if any.
Checkpoint In(const std::string& path) {
  Checkpoint checkpoint;
  if (!path.empty()) {
    auto directory = OpenLocalDirectory(path);
    EXPECT_TRUE(directory.ok()) << Describe(directory.status());
    checkpoint.directory = *std::move(directory);
  }
  return checkpoint;
}

HuggingFaceFiles Make(const Checkpoint& checkpoint, const ExportOptions& options = {}) {
  auto files = MakeHuggingFaceFiles(AModel(), checkpoint, options, DType::kBF16);
  EXPECT_TRUE(files.ok()) << Describe(files.status());
  return *files;
}

std::vector<std::string> Names(const HuggingFaceFiles& files) {
  std::vector<std::string> names;
  for (const SidecarFile& sidecar : files.sidecars) {
    names.push_back(sidecar.path);
  }
  return names;
}

TEST(HuggingFaceFiles, ThereIsAlwaysAConfigAndAGenerationConfig) {
  const HuggingFaceFiles files = Make(In(""));
  ASSERT_EQ(files.texts.size(), 2U);
  EXPECT_EQ(files.texts[0].path, "config.json");
  EXPECT_EQ(json::parse(files.texts[0].content)["model_type"], "llama");
  EXPECT_EQ(files.texts[1].path, "generation_config.json");
  EXPECT_EQ(json::parse(files.texts[1].content), (json{{"_from_model_config", true}}));
}

TEST(HuggingFaceFiles, AMissingTokenizerIsSaidWithWhatToDo) {
  const HuggingFaceFiles files = Make(In(""));
  ASSERT_EQ(files.warnings.size(), 1U);
  EXPECT_NE(files.warnings[0].find("tokenizer"), std::string::npos);
  EXPECT_NE(files.warnings[0].find("--hf-config"), std::string::npos);
}

TEST(HuggingFaceFiles, TheTokenizerOfTheUsersDirectoryIsTakenAlong) {
  const TemporaryDirectory hf;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json",
                           "README.md", "model.safetensors", "modeling_x.py"}) {
    hf.Write(name, "{}");
  }
  const HuggingFaceFiles files = Make(In(""), test::OptionsWith<&ExportOptions::hf_config>(hf / ""));
  EXPECT_EQ(Names(files), (std::vector<std::string>{"chat_template.jinja", "generation_config.json", "tokenizer.json",
                                                    "tokenizer_config.json"}));
  EXPECT_EQ(files.texts.size(), 1U);  // generation_config.json is the user's
  ASSERT_EQ(files.warnings.size(), 1U);
  EXPECT_NE(files.warnings[0].find("--allow-custom-code"), std::string::npos);
}

TEST(HuggingFaceFiles, CodeIsTakenAlongOnlyWhereAllowed) {
  const TemporaryDirectory hf;
  hf.Write("tokenizer.json", "{}");
  hf.Write("modeling_x.py", "print()");
  ExportOptions options = test::OptionsWith<&ExportOptions::hf_config>(hf / "");
  options.allow_custom_code = true;
  const HuggingFaceFiles files = Make(In(""), options);
  EXPECT_EQ(Names(files), (std::vector<std::string>{"modeling_x.py", "tokenizer.json"}));
  EXPECT_TRUE(files.warnings.empty());
}

TEST(HuggingFaceFiles, TheTokenizerThatMegatronSavedIsTakenWithItsTokens) {
  const TemporaryDirectory iteration;
  iteration.Write("tokenizer/tokenizer.json", "{}");
  iteration.Write("tokenizer/tokenizer_config.json",
                  R"({"eos_token": "</s>", "added_tokens_decoder": {"2": {"content": "</s>"}}})");
  const HuggingFaceFiles files = Make(In(iteration / ""));
  EXPECT_EQ(Names(files), (std::vector<std::string>{"tokenizer.json", "tokenizer_config.json"}));
  EXPECT_EQ(json::parse(files.texts[0].content)["eos_token_id"], 2);
  EXPECT_EQ(json::parse(files.texts[1].content)["eos_token_id"], 2);
  EXPECT_TRUE(files.warnings.empty());
}

TEST(HuggingFaceFiles, TheUsersTokenizerWinsOverTheSavedOne) {
  const TemporaryDirectory iteration;
  iteration.Write("tokenizer/tokenizer.json", "saved");
  const TemporaryDirectory hf;
  hf.Write("tokenizer.json", "users");
  const HuggingFaceFiles files = Make(In(iteration / ""), test::OptionsWith<&ExportOptions::hf_config>(hf / ""));
  ASSERT_EQ(files.sidecars.size(), 1U);
  EXPECT_EQ(files.sidecars[0].source, hf / "tokenizer.json");
}

TEST(HuggingFaceFiles, ALinkOutOfTheDirectoryIsRefused) {
  const TemporaryDirectory hf;
  hf.Write("secret", "s");
  hf.Link("../secret", "model/tokenizer.json");
  const auto files =
      MakeHuggingFaceFiles(AModel(), In(""), test::OptionsWith<&ExportOptions::hf_config>(hf / "model"), DType::kBF16);
  EXPECT_EQ(ReasonOf(files.status()), Reason::kPathOutsideRoot);
}

}  // namespace
}  // namespace slipway::engine
