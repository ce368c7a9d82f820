#include "worker/engine/plan/export_options.h"

#include <string_view>

#include <fmt/format.h>

#include "common/error.h"

namespace slipway::engine {

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
    if (target != "huggingface") {
      return Error(Reason::kOptionUnsupported,
                   fmt::format("--target {} is not available in this version: use --target huggingface", target));
    }
  }
  if (options.targets.size() > 1) {
    return Error(Reason::kInvalidArgument, "--target huggingface is given twice");
  }
  // `checkpoint` means: as the checkpoint was calibrated; one that was not stays as it is, one that was is refused
  // where its tensors are read.
  if (!options.quantization.empty() && options.quantization != "none" && options.quantization != "checkpoint") {
    return Error(Reason::kOptionUnsupported,
                 fmt::format("--quantization {} is not available in this version: use --quantization none",
                             options.quantization));
  }
  if (options.dtype && *options.dtype != DType::kBF16 && *options.dtype != DType::kF16 &&
      *options.dtype != DType::kF32) {
    return Error(Reason::kInvalidArgument, "--dtype is one of bf16, fp16, fp32");
  }
  if (options.maximum_shard_bytes < kMinimumShard) {
    return Error(Reason::kInvalidArgument, fmt::format("--max-shard-size {} is too small: at least {}",
                                                       options.maximum_shard_bytes, kMinimumShard));
  }
  return absl::OkStatus();
}

}  // namespace slipway::engine
