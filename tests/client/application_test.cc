#include "client/application.h"

#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/completions.h"
#include "common/error.h"
#include "worker/engine/model/architecture.h"

namespace slipway {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

struct Outcome {
  ExitStatus status;
  std::string out;
  std::string err;
};

Outcome RunWords(const std::vector<std::string>& words) {
  std::ostringstream out;
  std::ostringstream err;
  Console console{.out = out, .err = err, .out_terminal = {}, .err_terminal = {}};
  const ExitStatus status = RunApplication(words, console);
  return {status, out.str(), err.str()};
}

// Only parses.
bool Parses(std::vector<std::string> words) {
  CommandLine line;
  const auto app = MakeApplication(line);
  try {
    app->parse(std::vector<std::string>(words.rbegin(), words.rend()));
  } catch (const CLI::ParseError&) {
    return false;
  }
  return static_cast<bool>(line.action);
}

TEST(CommandLine, EveryOptionOfTheDesignParses) {
  const std::vector<std::vector<std::string>> options{
      {"--target", "huggingface"},
      {"--target", "tensorrt-llm", "--target", "vllm-sharded", "--target", "sglang-sharded"},
      {"--quantization", "nvfp4-awq"},
      {"--recipe", SLIPWAY_TEST_DATA "/README.md"},  // a text
      {"--kv-cache", "fp8"},
      {"--config-form", "compressed-tensors"},
      {"--calibration", "tokens.npy", "--calibration-samples", "8", "--calibration-length", "512"},
      {"--scale-search", "mse", "--effective-bits", "4.5", "--propagate-quantized"},
      {"--ranges", "r.safetensors"},
      {"--hf-config", "dir"},
      {"--adapter", "dir", "--adapter-only"},
      {"--architecture", "MistralForCausalLM"},
      {"--iteration", "100", "--allow-custom-code"},
      {"--dtype", "fp16"},
      {"--tensor-parallel", "2", "--pipeline-parallel", "2", "--expert-parallel", "2"},
      {"--tensorrt-llm-version", "1.0"},
      {"--device", "cuda", "--workers", "4", "--memory-budget", "8GiB", "--gpu-memory-budget", "40GiB"},
      {"--max-shard-size", "5GB", "--digest", "xxh3", "--overwrite"},
      {"--server", "h:1", "--tls-ca", "a", "--tls-cert", "b", "--tls-key", "c", "--token-file", "d", "--publish", "/p"},
      {"--json"},
  };
  for (const auto& more : options) {
    for (const std::string command : {"export", "submit", "plan"}) {
      std::vector<std::string> words{command, "checkpoint"};
      if (command == "export") {
        words.emplace_back("output");
      }
      if (command == "submit") {
        words.insert(words.end(), {"--server", "h:1"});
      }
      words.insert(words.end(), more.begin(), more.end());
      EXPECT_TRUE(Parses(words)) << command << " " << more.front();
    }
  }
}

TEST(CommandLine, EveryCommandOfTheDesignParses) {
  for (const std::string command : {"watch", "get", "cancel", "delete"}) {
    EXPECT_TRUE(Parses({command, "exports/1", "--server", "h:1"})) << command;
  }
  EXPECT_TRUE(Parses({"list", "--server", "h:1"}));
  EXPECT_TRUE(Parses({"download", "exports/1", "out", "--server", "h:1"}));
  EXPECT_TRUE(Parses({"inspect", "checkpoint", "--tensors", "--json"}));
  EXPECT_TRUE(Parses({"verify", "artifact", "--against", "checkpoint", "--tokens", "f"}));
  EXPECT_TRUE(Parses({"formats"}));
}

TEST(CommandLine, EveryQuantizationFormatOfTheDesignParses) {
  for (const std::string format :
       {"none", "fp8", "fp8-per-channel", "fp8-block", "int8", "int8-smoothquant", "int4", "int4-awq", "int4-gptq",
        "w4a8-awq", "nvfp4", "nvfp4-awq", "mxfp4", "mxfp8", "checkpoint"}) {
    EXPECT_TRUE(Parses({"export", "c", "o", "--quantization", format})) << format;
  }
}

TEST(CommandLine, WrongUsageExitsWithTwoAndSaysWhatIsMeant) {
  const Outcome command = RunWords({"exprot", "c", "o"});
  EXPECT_EQ(command.status, ExitStatus::kUsage);
  EXPECT_THAT(command.err,
              StartsWith("slipway: INVALID_ARGUMENT: there is no command 'exprot'; did you mean 'export'?"));
  const Outcome option = RunWords({"export", "c", "o", "--overwrit"});
  EXPECT_EQ(option.status, ExitStatus::kUsage);
  EXPECT_THAT(option.err,
              StartsWith("slipway: INVALID_ARGUMENT: `slipway export` has no option '--overwrit'; did you mean "
                         "'--overwrite'?"));
  EXPECT_EQ(RunWords({}).status, ExitStatus::kUsage);
}

TEST(CommandLine, MissingAndMalformedValuesAreWrongUsage) {
  EXPECT_THAT(RunWords({"export", "c"}).err, HasSubstr("OUTPUT is required"));
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"export", "c"},
           {"export", "c", "o", "extra"},
           {"export", "c", "o", "--workers", "0"},
           {"export", "c", "o", "--workers", "many"},
           {"export", "c", "o", "--memory-budget", "8XB"},
           {"export", "c", "o", "--quantization", "fp9"},
           {"export", "c", "o", "--kv-cache", "int8"},
           {"export", "c", "o", "--config-form", "gguf"},
           {"export", "c", "o", "--scale-search", "best"},
           {"export", "c", "o", "--device", "cuda:0"},
           {"export", "c", "o", "--gpu-memory-budget", "0"},
           {"export", "c", "o", "--dtype", "int3"},
           {"export", "c", "o", "--digest", "md5"},
           {"export", "c", "o", "--iteration", "-1"},
           {"export", "c", "o", "--calibration-samples", "x"},
           {"export", "c", "o", "--target", "vllm"},
           {"export", "c", "o", "--tensor-parallel", "0"},
           {"export", "c", "o", "--pipeline-parallel", "1025"},
           {"export", "c", "o", "--expert-parallel", "two"},
           {"submit", "c"},
           {"verify", "a", "--tokens", "f"},
           {"completions", "tcsh"},
       }) {
    EXPECT_EQ(RunWords(words).status, ExitStatus::kUsage) << testing::PrintToString(words);
  }
}

TEST(CommandLine, OptionsOfLaterVersionsAreRefusedAsUnsupported) {
  const Outcome run = RunWords({"plan", "checkpoint", "--calibration", "tokens.npy"});
  EXPECT_EQ(run.status, ExitStatus::kRefused);
  EXPECT_THAT(run.err, StartsWith("slipway: OPTION_UNSUPPORTED: this version cannot do --calibration tokens.npy yet"));
}

TEST(CommandLine, ValuesThatAskForNothingAreNotRefused) {
  ExportFlags flags;
  CLI::App app;
  AddExportOptions(app, flags);
  app.parse("checkpoint --kv-cache none --config-form auto --tensor-parallel 1");
  EXPECT_TRUE(CheckSupported(flags).ok());
}

TEST(CommandLine, AnOutputThatExistsIsRefusedUpFront) {
  const Outcome run = RunWords({"export", "c", testing::TempDir()});
  EXPECT_EQ(run.status, ExitStatus::kRefused);
  EXPECT_THAT(run.err, StartsWith("slipway: OUTPUT_EXISTS: "));
}

TEST(CommandLine, AServerThatIsNotThereExitsWithFour) {
  const Outcome run = RunWords({"list", "--server", "unix:/nonexistent/socket"});
  EXPECT_EQ(run.status, ExitStatus::kUnreachable);
}

TEST(CommandLine, ProgramsGetUsageErrorsAsJson) {
  EXPECT_THAT(RunWords({"export", "--json"}).out, StartsWith("{\"error\":{\"reason\":\"INVALID_ARGUMENT\""));
}

TEST(CommandLine, HelpAndVersionGoToStdout) {
  EXPECT_THAT(RunWords({"--version"}).out, StartsWith("slipway "));
  EXPECT_THAT(RunWords({"export", "--help"}).out, HasSubstr("--memory-budget"));
  EXPECT_EQ(RunWords({"--help"}).status, ExitStatus::kDone);
}

TEST(CommandLine, FormatsListEveryFamilyWithWhatProvesIt) {
  const auto formats = nlohmann::json::parse(RunWords({"formats", "--json"}).out);
  ASSERT_EQ(formats["architectures"].size(), engine::Architectures().size());
  for (const auto& family : formats["architectures"]) {
    EXPECT_FALSE(family["model_type"].get<std::string>().empty()) << family;
    EXPECT_THAT(family["proof"], testing::AnyOf("megatron-core", "megatron-bridge", "derived")) << family;
  }
  EXPECT_THAT(RunWords({"formats"}).out, HasSubstr("LlamaForCausalLM"));
}

TEST(CommandLine, FlagsBecomeTheSpecification) {
  ExportFlags flags;
  CLI::App app;
  AddExportOptions(app, flags);
  app.parse("/c --iteration 7 --dtype fp16 --digest xxh3 --max-shard-size 2MiB --overwrite --target huggingface");
  const auto spec = ToExportSpec(flags, /*local=*/false);
  ASSERT_TRUE(spec.ok());
  EXPECT_EQ(spec->checkpoint(), "/c");
  EXPECT_EQ(spec->iteration(), 7);
  EXPECT_EQ(spec->dtype(), "fp16");
  EXPECT_EQ(spec->digest(), "xxh3");
  EXPECT_EQ(spec->max_shard_bytes(), 2 * 1024 * 1024);
  EXPECT_TRUE(spec->overwrite());
  EXPECT_EQ(spec->targets_size(), 1);
}

TEST(DidYouMean, OnlyWhatIsNear) {
  EXPECT_EQ(DidYouMean("wacth", {"watch", "get"}), "watch");
  EXPECT_EQ(DidYouMean("zebra", {"watch", "get"}), "");
}

TEST(Completions, CoverEveryCommandAndOption) {
  CommandLine line;
  const auto app = MakeApplication(line);
  for (const std::string shell : {"bash", "zsh", "fish"}) {
    const std::string script = RenderCompletions(*app, shell);
    for (const std::string word :
         {"export", "submit", "download", "inspect", "memory-budget", "architecture", "recipe", "kv-cache",
          "config-form", "scale-search", "ranges", "tensor-parallel", "tensorrt-llm-version"}) {
      EXPECT_THAT(script, HasSubstr(word)) << shell;
    }
  }
}

}  // namespace
}  // namespace slipway
