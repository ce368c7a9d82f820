// The Hugging Face directory around the weights: config.json, generation_config.json, tokenizer and chat template.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/dtype.h"
#include "worker/engine/model/model.h"
#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

struct HuggingFaceFiles {
  std::vector<TextFile> texts;
  std::vector<SidecarFile> sidecars;
  std::vector<std::string> warnings;
};

// `dtype` is that of the exported weights. Files come from --hf-config where it has them, else from the tokenizer that
// Megatron saved beside the weights (<iteration>/tokenizer). Errors as HfDirectory.
absl::StatusOr<HuggingFaceFiles> MakeHuggingFaceFiles(const Model& model, const Checkpoint& checkpoint,
                                                      const ExportOptions& options, DType dtype);

}  // namespace slipway::engine
