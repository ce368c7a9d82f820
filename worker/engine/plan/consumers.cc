#include "worker/engine/plan/consumers.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "worker/engine/plan/ragged_blocks.h"
#include "worker/engine/quantize/formats/loaders.h"

namespace slipway::engine {
namespace {

// Classes whose layers are none that transformers quantizes: GPT-2's Conv1D, Falcon's own linear layer.
constexpr auto kNotLinear = std::to_array<std::string_view>({"GPT2LMHeadModel", "FalconForCausalLM"});

// Engines know GPT-OSS's experts as stacks alone.
bool TakesExpertsApart(const ExportPlan& plan) {
  return plan.architecture == "GptOssForCausalLM" &&
         std::ranges::any_of(plan.quantized, [](const QuantizedWeight& weight) {
           return !weight.layout->stacked_experts && weight.module.find(".experts.") != std::string::npos;
         });
}

// SGLang takes ModelOpt's mixed precision without NVFP4 for W4A8 with FP8 inputs.
bool IsMixedWithoutNvfp4(const ExportPlan& plan) {
  const auto is_nvfp4 = [](const QuantizedWeight& weight) { return weight.format->name.starts_with("nvfp4"); };
  const auto is_other = [&plan](const QuantizedWeight& weight) {
    return weight.layout != plan.quantized.front().layout;
  };
  return !plan.quantized.empty() && plan.quantized.front().layout->form == ConfigForm::kModelOpt &&
         std::ranges::any_of(plan.quantized, is_other) && std::ranges::none_of(plan.quantized, is_nvfp4);
}

}  // namespace

std::uint8_t KeptFrom(const ExportPlan& plan) {
  std::uint8_t kept = KeptFromByRaggedBlocks(plan);
  if (TakesExpertsApart(plan)) {
    kept |= kLoadsAll;
  }
  if (std::ranges::find(kNotLinear, plan.architecture) != kNotLinear.end()) {
    kept |= kLoadsTransformers;
  }
  if (IsMixedWithoutNvfp4(plan)) {
    kept |= kLoadsSglang;
  }
  return kept;
}

void WarnOfConsumers(ExportPlan& plan) {
  WarnOfRaggedBlocks(plan);
  if (TakesExpertsApart(plan)) {
    plan.warnings.emplace_back(
        "no engine is known to load GPT-OSS's experts in this form: they load mxfp4 with --config-form native, or "
        "unquantized experts");
  }
}

}  // namespace slipway::engine
