#include "common/vocabulary.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/error.h"

namespace slipway {
namespace {

constexpr std::string_view kNothing = "nothing";
constexpr std::string_view kRangesIfStatic = "nothing; ranges for static activations";
constexpr std::string_view kCalibration = "ranges, or a calibrated checkpoint";
constexpr std::string_view kCalibrated = "a checkpoint that was calibrated for it";
constexpr std::string_view kCalibrationTokens = "calibration tokens";

constexpr std::array kTargets = std::to_array<Word>({
    {"huggingface", "safetensors, index, config.json, tokenizer", kNothing, "transformers, vLLM, SGLang, TensorRT-LLM",
     true},
    {"tensorrt-llm", "checkpoint for TensorRT engines; newer TensorRT-LLM wants huggingface", "--tensor-parallel",
     "TensorRT-LLM 0.11 to 1.2", true},
    {"vllm-sharded", "sharded state of vLLM, files a rank; six families, INT4 to FP8", "--tensor-parallel", "vLLM 0.32",
     true},
    {"sglang-sharded", "sharded state of SGLang, files a rank; six families, unquantized", "--tensor-parallel",
     "SGLang 0.5", true},
});

// The worker's tables of formats say the same; a test holds the two together.
constexpr std::array kQuantizationFormats = std::to_array<Word>({
    {"none", "as trained", kNothing, "all", true},
    {"checkpoint", "as ModelOpt calibrated it during training", "a calibrated checkpoint", "as the format", true},
    {"fp8", "FP8 E4M3, one scale a tensor", kRangesIfStatic, "vLLM, SGLang, TensorRT-LLM, transformers", true},
    {"fp8-per-channel", "FP8 E4M3, one scale a row", kNothing, "vLLM, SGLang, TensorRT-LLM, transformers", true},
    {"fp8-block", "FP8 E4M3, blocks of 128 x 128", kNothing, "vLLM, SGLang, TensorRT-LLM, transformers", true},
    {"int8", "INT8, one scale a row", kRangesIfStatic, "vLLM, SGLang, TensorRT-LLM, transformers", true},
    {"int8-smoothquant", "INT8 with smoothed activations", kCalibrated, "vLLM, SGLang, TensorRT-LLM, transformers",
     true},
    {"int4", "INT4, groups of 128", kNothing, "vLLM, SGLang, transformers", true},
    {"int4-awq", "INT4 with activation-aware scales", kCalibrated, "vLLM, SGLang, TensorRT-LLM, transformers", true},
    {"int4-gptq", "INT4 with second-order rounding", kCalibrationTokens, "vLLM, SGLang, transformers"},
    {"w4a8-awq", "INT4 weights, FP8 activations", kCalibrated, "vLLM, SGLang (experts), TensorRT-LLM", true},
    {"nvfp4", "NVFP4 E2M1, blocks of 16", kRangesIfStatic, "vLLM, SGLang, TensorRT-LLM, transformers", true},
    {"nvfp4-awq", "NVFP4 with activation-aware scales", kCalibrated, "SGLang, TensorRT-LLM", true},
    {"mxfp4", "MXFP4 E2M1, blocks of 32", kNothing, "vLLM, SGLang (experts), TensorRT-LLM, transformers", true},
    {"mxfp8", "MXFP8 E4M3, blocks of 32", kNothing, "vLLM, SGLang, TensorRT-LLM, transformers", true},
});

constexpr std::array kKvCaches = std::to_array<Word>({
    {"none", "as the engine is told when it starts", kNothing, "all", true},
    {"fp8", "FP8 E4M3, one scale a layer for keys and one for values", kCalibration, "vLLM, SGLang, TensorRT-LLM",
     true},
    {"nvfp4", "NVFP4, blocks of 16", kCalibration, "vLLM, SGLang, TensorRT-LLM", true},
});

constexpr std::array kConfigForms = std::to_array<Word>({
    {"auto", "the one that most consumers of the format load", kNothing, "as the form", true},
    {"modelopt", "quant_method modelopt, and hf_quant_config.json beside config.json", kNothing,
     "vLLM, SGLang, TensorRT-LLM", true},
    {"compressed-tensors", "quant_method compressed-tensors", kNothing, "vLLM, SGLang, transformers", true},
    {"native", "quant_method of the format itself: fp8, awq, gptq, mxfp4", kNothing, "as the format", true},
});

constexpr std::array kScaleSearches = std::to_array<Word>({
    {"amax", "the largest value decides", kNothing, "all", true},
    {"mse", "the least squared error of those near it", kNothing, "all", true},
});

}  // namespace

std::span<const Word> Targets() { return kTargets; }

std::span<const Word> QuantizationFormats() { return kQuantizationFormats; }

std::span<const Word> KvCaches() { return kKvCaches; }

std::span<const Word> ConfigForms() { return kConfigForms; }

std::span<const Word> ScaleSearches() { return kScaleSearches; }

bool HasRanks(std::string_view target) {
  return target == "tensorrt-llm" || target == "vllm-sharded" || target == "sglang-sharded";
}

std::vector<std::string> NamesOf(std::span<const Word> words) {
  std::vector<std::string> names;
  for (const Word& word : words) {
    names.emplace_back(word.name);
  }
  return names;
}

absl::Status CheckWord(std::span<const Word> words, std::string_view option, std::string_view name) {
  constexpr std::size_t kShown = 64;
  const auto word = std::ranges::find(words, name, &Word::name);
  if (word == words.end()) {
    return Error(Reason::kInvalidArgument, fmt::format("{}: there is no '{}'; there are {}.", option,
                                                       name.substr(0, kShown), fmt::join(NamesOf(words), ", ")));
  }
  if (word->supported) {
    return absl::OkStatus();
  }
  std::vector<std::string> supported;
  for (const Word& other : words) {
    if (other.supported) {
      supported.emplace_back(other.name);
    }
  }
  return Error(Reason::kOptionUnsupported, fmt::format("{}: this version does not write '{}' yet, only {}.", option,
                                                       name, fmt::join(supported, ", ")));
}

}  // namespace slipway
