#include "worker/engine/target/tensorrt_llm/families.h"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>

namespace slipway::engine::tensorrt_llm {
namespace {

struct Lack {
  std::string_view architecture;
  std::string_view reason;
};

constexpr std::string_view kOtherBackEnd = "TensorRT-LLM runs it in its PyTorch back end only, not in engines";
constexpr std::string_view kSeesToo = "engines of models that see are made of several checkpoints";

constexpr Lack kLacks[] = {
    {"DeepseekV3ForCausalLM", kOtherBackEnd},
    {"GptOssForCausalLM", kOtherBackEnd},
    {"Llama4ForCausalLM", kOtherBackEnd},
    {"Llama4ForConditionalGeneration", kOtherBackEnd},
    {"NemotronHForCausalLM", kOtherBackEnd},
    {"Qwen3NextForCausalLM", kOtherBackEnd},
    {"Qwen2_5_VLForConditionalGeneration", kSeesToo},
    {"Qwen3VLForConditionalGeneration", kSeesToo},
    {"Qwen3VLMoeForConditionalGeneration", kSeesToo},
};

}  // namespace

const Family* FindFamily(std::string_view architecture) {
  const auto found = std::ranges::find(kFamilies, architecture, &Family::architecture);
  return found == kFamilies.end() ? nullptr : *found;
}

std::string WhyNoFamily(std::string_view architecture) {
  const auto lack = std::ranges::find(kLacks, architecture, &Lack::architecture);
  std::string known;
  for (const Family* family : kFamilies) {
    fmt::format_to(std::back_inserter(known), "{}{}", known.empty() ? "" : ", ", family->architecture);
  }
  return fmt::format(
      "--target tensorrt-llm cannot hold {}: {}. Use --target huggingface, which TensorRT-LLM's PyTorch "
      "back end loads; engines are made of {}",
      architecture.substr(0, 100), lack == std::end(kLacks) ? "TensorRT-LLM has no engine class for it" : lack->reason,
      known);
}

}  // namespace slipway::engine::tensorrt_llm
