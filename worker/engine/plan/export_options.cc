#include "worker/engine/plan/export_options.h"

#include <algorithm>
#include <span>
#include <string>

#include <fmt/format.h>

#include "common/error.h"
#include "common/parallel_size.h"
#include "common/recipe_text.h"
#include "common/vocabulary.h"

namespace slipway::engine {
namespace {

absl::Status CheckQuantization(const ExportOptions& options) {
  if (!options.recipe.empty()) {
    if (!options.quantization.empty() && options.quantization != "none") {
      return Error(Reason::kInvalidArgument, "--recipe does not go with --quantization, which is short for a recipe");
    }
    SLIPWAY_RETURN_IF_ERROR(CheckRecipeText("--recipe", options.recipe));
  }
  struct Choice {
    std::span<const Word> words;
    const char* option;
    const std::string& chosen;
  };
  for (const auto& [words, option, chosen] :
       {Choice{QuantizationFormats(), "--quantization", options.quantization},
        Choice{KvCaches(), "--kv-cache", options.kv_cache}, Choice{ConfigForms(), "--config-form", options.config_form},
        Choice{ScaleSearches(), "--scale-search", options.scale_search}}) {
    if (!chosen.empty()) {
      SLIPWAY_RETURN_IF_ERROR(CheckWord(words, option, chosen));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckRanks(const ExportOptions& options) {
  SLIPWAY_RETURN_IF_ERROR(CheckParallelSize("--tensor-parallel", options.tensor_parallel, options.targets));
  SLIPWAY_RETURN_IF_ERROR(CheckParallelSize("--pipeline-parallel", options.pipeline_parallel, options.targets));
  SLIPWAY_RETURN_IF_ERROR(CheckParallelSize("--expert-parallel", options.expert_parallel, options.targets));
  SLIPWAY_RETURN_IF_ERROR(
      CheckTensorRtLlmVersion("--tensorrt-llm-version", options.tensorrt_llm_version, options.targets));
  const auto with_ranks = std::ranges::find_if(options.targets, [](const auto& target) { return HasRanks(target); });
  if (options.adapter_only && with_ranks != options.targets.end()) {
    return Error(Reason::kOptionUnsupported,
                 fmt::format("--adapter-only does not go with --target {}, which holds whole models: leave it out to "
                             "merge the adapter",
                             *with_ranks));
  }
  return absl::OkStatus();
}

}  // namespace

bool AsksForQuantization(const ExportOptions& options) {
  return !options.recipe.empty() || !(options.quantization.empty() || options.quantization == "none");
}

absl::Status CheckOptions(const ExportOptions& options) {
  // Smaller files help nobody and make millions of them.
  constexpr std::int64_t kMinimumShard = 1024;
  if (options.checkpoint.empty()) {
    return Error(Reason::kInvalidArgument, "no checkpoint is given");
  }
  if (options.targets.empty()) {
    return Error(Reason::kInvalidArgument, "no target is given: use --target huggingface");
  }
  for (const std::string& target : options.targets) {
    SLIPWAY_RETURN_IF_ERROR(CheckWord(Targets(), "--target", target));
    if (std::ranges::count(options.targets, target) > 1) {
      return Error(Reason::kInvalidArgument, fmt::format("--target {} is given twice", target));
    }
  }
  SLIPWAY_RETURN_IF_ERROR(CheckRanks(options));
  SLIPWAY_RETURN_IF_ERROR(CheckQuantization(options));
  if (options.dtype && *options.dtype != DType::kBF16 && *options.dtype != DType::kF16 &&
      *options.dtype != DType::kF32) {
    return Error(Reason::kInvalidArgument, "--dtype is one of bf16, fp16, fp32");
  }
  if (options.maximum_shard_bytes != 0 && options.maximum_shard_bytes < kMinimumShard) {
    return Error(Reason::kInvalidArgument, fmt::format("--max-shard-size {} is too small: at least {}",
                                                       options.maximum_shard_bytes, kMinimumShard));
  }
  if (options.adapter_only && options.adapter.empty()) {
    return Error(Reason::kInvalidArgument,
                 "--adapter-only exports the adapter that --adapter names, but none is given");
  }
  if (options.adapter_only && AsksForQuantization(options)) {
    return Error(Reason::kOptionUnsupported,
                 "--adapter-only leaves an adapter unquantized: leave out --quantization and --recipe");
  }
  return absl::OkStatus();
}

}  // namespace slipway::engine
